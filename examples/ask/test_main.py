"""What the function tells the helper and makes of its answers; the helper is a stand-in that scores by common words."""

import unittest

import main


class Embed:
    """Keeps documents in memory; the score is the share of the question's words that a document has."""

    def __init__(self):
        self.kept = {}
        self.added = 0

    def documents(self, prefix, limit):
        return [{"id": id, **document} for id, document in self.kept.items() if id.startswith(prefix)][:limit]

    def add(self, id, text, metadata):
        self.kept[id] = {"text": text, "metadata": metadata}
        self.added += 1

    def remove(self, id):
        del self.kept[id]

    def search(self, text, limit):
        words = set(text.lower().strip("?").split())
        scored = [
            {"id": id, **document, "score": len(words & set(document["text"].lower().strip("?").split())) / len(words)}
            for id, document in self.kept.items()
        ]
        return sorted(scored, key=lambda one: -one["score"])[:limit]


class Context:
    def __init__(self, embed):
        self.embed = embed

    def helper(self, name):
        assert name == "embed"
        return self.embed


class Handler(unittest.TestCase):
    def setUp(self):
        main.taught = False
        self.embed = Embed()

    def ask(self, question):
        return main.handler({"question": question}, Context(self.embed))

    def test_the_best_entry_comes_first(self):
        answer = self.ask("computing answers before anybody asks")
        self.assertEqual(answer["question"], "computing answers before anybody asks")
        self.assertEqual(answer["answers"][0]["word"], "precomputation")
        self.assertIn("idle", answer["answers"][0]["answer"])
        self.assertLessEqual(len(answer["answers"]), main.ANSWERS_MAX)

    def test_the_helper_is_told_once_and_only_what_it_lacks(self):
        self.ask("what is a result")
        self.ask("what is a result")
        self.assertEqual(self.embed.added, len(main.FAQ))
        self.embed.kept["faq/result"]["text"] = "as it was in an older version"
        self.embed.kept["faq/gone"] = {"text": "gone from the list", "metadata": {}}
        main.taught = False  # as in another instance
        self.ask("what is a result")
        self.assertEqual(self.embed.added, len(main.FAQ) + 1)
        self.assertEqual(self.embed.kept.keys(), main.FAQ.keys())

    def test_other_documents_of_the_helper_are_no_answers(self):
        self.embed.add("other", "bananas are yellow", {})
        self.assertEqual(self.ask("bananas yellow")["answers"], [])

    def test_wrong_events_are_refused(self):
        for event in ({}, [], {"question": 7}, {"question": " "}, {"question": "x" * (main.QUESTION_MAX_CHARS + 1)}):
            with self.subTest(event), self.assertRaises(ValueError):
                main.handler(event, Context(self.embed))
        self.assertEqual(self.embed.added, 0)

    def test_entries_are_complete_and_different(self):
        for text, entry in main.FAQ.values():
            self.assertEqual(entry.keys(), {"word", "question", "answer"})
        self.assertEqual(len({text for text, _ in main.FAQ.values()}), len(main.FAQ))


if __name__ == "__main__":
    unittest.main()
