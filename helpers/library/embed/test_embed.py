"""The model against the reference implementation's numbers, the index against a plain search, and what is refused."""

import json
import math
import os
import random
import unittest

import numpy
from raas import WrongArguments

import document_index
import embed
from encoder import Encoder, gelu, model_folder

FOLDER = os.path.dirname(os.path.abspath(__file__))
ENCODER = Encoder(model_folder())
FRUIT = {"a": "Apples grow on trees.", "b": "A bank lends money.", "c": "The trumpet is a brass instrument."}


def started(state=None):
    """A replica, with the state of another one where that is given."""
    replica = embed.Embed()
    replica._state = state
    replica.encoder = ENCODER
    replica.index = document_index.DocumentIndex(replica.state, ENCODER.size)
    replica.index.refresh()
    return replica


class Model(unittest.TestCase):
    def setUp(self):
        with open(os.path.join(FOLDER, "reference.json"), encoding="utf-8") as file:
            self.reference = json.load(file)

    def test_the_numbers_are_the_reference_ones(self):
        vectors = ENCODER.embed(self.reference["texts"])
        for actual, expected in (
            (vectors[:, :8], self.reference["first"]),
            (numpy.linalg.norm(vectors, axis=1), self.reference["norms"]),
            (vectors @ vectors.T, self.reference["similarities"]),
        ):
            self.assertLess(numpy.abs(actual - numpy.array(expected)).max(), 1e-5)

    def test_a_text_has_the_same_vector_alone_as_among_others(self):
        together = ENCODER.embed(self.reference["texts"])
        alone = numpy.concatenate([ENCODER.embed([text]) for text in self.reference["texts"]])
        self.assertLess(numpy.abs(together - alone).max(), 1e-5)

    def test_what_is_behind_the_256th_token_does_not_count(self):
        text = "word " * 254
        self.assertEqual(ENCODER.embed([text]).tolist(), ENCODER.embed([text + "and something else"]).tolist())
        self.assertNotEqual(ENCODER.embed([text]).tolist(), ENCODER.embed([text[:-5]]).tolist())

    def test_gelu_is_off_by_no_more_than_it_says(self):
        x = numpy.linspace(-12, 12, 100_001, dtype=numpy.float32)
        exact = [0.5 * one * math.erfc(-one / math.sqrt(2)) for one in x.tolist()]
        self.assertLess(numpy.abs(gelu(x) - numpy.array(exact)).max(), 4e-7)


class Methods(unittest.TestCase):
    def setUp(self):
        self.helper = started()

    def test_vectors_are_lists_of_384_numbers_of_length_1(self):
        vector = self.helper.embed("hello")
        self.assertEqual((len(vector), type(vector[0])), (384, float))
        self.assertAlmostEqual(sum(number * number for number in vector), 1, places=5)
        self.assertEqual(self.helper.embed_many([]), [])
        many = self.helper.embed_many(["goodbye", "hello"])
        self.assertLess(numpy.abs(numpy.array(many[1]) - vector).max(), 1e-5)

    def test_similar_texts_are_similar(self):
        near = self.helper.similarity("A man is playing a guitar.", "Someone plays an instrument.")
        far = self.helper.similarity("A man is playing a guitar.", "Interest rates went up.")
        self.assertGreater(near, far + 0.3)
        self.assertAlmostEqual(self.helper.similarity("same", "same"), 1, places=5)

    def test_wrong_arguments_are_refused(self):
        helper = self.helper
        for call in (
            lambda: helper.embed(""),
            lambda: helper.embed(" \n"),
            lambda: helper.embed(7),
            lambda: helper.embed("x" * (embed.TEXT_MAX_CHARS + 1)),
            lambda: helper.embed_many("text"),
            lambda: helper.embed_many(["x"] * (embed.TEXTS_MAX + 1)),
            lambda: helper.embed_many(["fine", ""]),
            lambda: helper.similarity("a", None),
            lambda: helper.add("", "text"),
            lambda: helper.add("ü" * 129, "text"),
            lambda: helper.add("id", ""),
            lambda: helper.add("id", "text", metadata=[]),
            lambda: helper.add("id", "text", metadata={"x": "y" * embed.METADATA_MAX_BYTES}),
            lambda: helper.remove("nobody"),
            lambda: helper.search("", 1),
            lambda: helper.search("text", 0),
            lambda: helper.search("text", True),
            lambda: helper.documents(limit=embed.DOCUMENTS_LIMIT_MAX + 1),
        ):
            self.assertRaises(WrongArguments, call)
        self.assertEqual(helper.documents(), [])

    def test_the_schemas_say_what_the_code_checks(self):
        def properties(name):
            with open(os.path.join(FOLDER, "schemas", f"{name}.json"), encoding="utf-8") as file:
                return json.load(file)["properties"]

        for name in ("embed", "add", "search"):
            self.assertEqual(properties(name)["text"]["maxLength"], embed.TEXT_MAX_CHARS)
        self.assertEqual(properties("embed_many")["texts"]["maxItems"], embed.TEXTS_MAX)
        self.assertEqual(properties("add")["id"]["maxLength"], embed.ID_MAX_BYTES)
        self.assertEqual(properties("search")["limit"]["maximum"], embed.SEARCH_LIMIT_MAX)
        self.assertEqual(properties("documents")["limit"]["maximum"], embed.DOCUMENTS_LIMIT_MAX)


class Documents(unittest.TestCase):
    def setUp(self):
        self.helper = started()
        for id, text in FRUIT.items():
            self.helper.add(id, text, {"letter": id})

    def ids(self, helper, text, limit=5):
        return [found["id"] for found in helper.search(text, limit)]

    def test_the_nearest_comes_first(self):
        found = self.helper.search("a loan with interest", 2)
        self.assertEqual(
            {**found[0], "score": 0}, {"id": "b", "text": FRUIT["b"], "metadata": {"letter": "b"}, "score": 0}
        )
        self.assertEqual(len(found), 2)
        self.assertGreater(found[0]["score"], found[1]["score"])
        score = self.helper.similarity("a loan with interest", FRUIT["b"])
        self.assertAlmostEqual(found[0]["score"], score, places=5)

    def test_a_document_is_replaced_and_removed(self):
        self.helper.add("b", "Bees make honey.")
        self.assertEqual(self.helper.search("honey bees", 1)[0]["text"], "Bees make honey.")
        self.assertEqual(len(self.helper.documents()), 3)
        self.helper.remove("b")
        self.assertEqual(sorted(self.ids(self.helper, "honey bees")), ["a", "c"])
        self.assertRaises(WrongArguments, self.helper.remove, "b")
        self.assertEqual(len(self.helper.state.list("documents/")), 2, "nothing of it is left in the state")

    def test_documents_are_listed_by_prefix(self):
        self.helper.add("fruit/1", "one")
        self.helper.add("fruit/0/x", "two")
        self.assertEqual([one["id"] for one in self.helper.documents("fruit/")], ["fruit/0/x", "fruit/1"])
        self.assertEqual([one["id"] for one in self.helper.documents(limit=2)], ["a", "b"])

    def test_replicas_find_each_others_documents(self):
        other = started(self.helper.state)
        self.assertEqual(self.ids(other, "brass", 1), ["c"])
        other.add("d", "A violin has four strings.")
        self.assertEqual(self.ids(self.helper, "fiddle", 1), ["d"])
        self.helper.add("d", "Rain falls in spring.")
        self.assertEqual(self.ids(other, "wet weather", 1), ["d"])
        self.helper.remove("d")
        self.assertEqual(sorted(self.ids(other, "wet weather")), ["a", "b", "c"])
        self.assertEqual(other.documents(), started(self.helper.state).documents())

    def test_one_of_two_puts_at_once_stays_and_both_are_removed(self):
        other = started(self.helper.state)
        for replica, text in ((self.helper, "first"), (other, "second")):
            # Neither has read what the other put.
            replica.index.put("d", replica.vector(text), text, None)
        self.assertEqual([one["text"] for one in self.helper.documents("d")], ["second"])
        self.assertEqual(self.helper.documents(), other.documents())
        other.remove("d")
        self.assertEqual(self.helper.documents("d"), [])
        self.assertEqual(len(self.helper.state.list("documents/")), 3)

    def test_what_goes_while_it_is_read_is_listed_again(self):
        other = started(self.helper.state)
        self.helper.add("a", "Pears, too.")
        get = other.state.get

        def get_and_change(key, default=None):
            if key.startswith("documents/"):
                other.index.state.get = get
                self.helper.add("a", "Plums, in the end.")
            return get(key, default)

        other.index.state.get = get_and_change
        self.assertEqual([one["text"] for one in other.documents("a")], ["Plums, in the end."])

    def test_no_more_documents_than_there_may_be(self):
        most = document_index.DOCUMENTS_MAX
        document_index.DOCUMENTS_MAX = 3
        self.addCleanup(setattr, document_index, "DOCUMENTS_MAX", most)
        self.assertRaises(WrongArguments, self.helper.add, "d", "one too many")
        self.helper.add("a", "in place of another")

    def test_found_as_by_sorting_them_all(self):
        chance = random.Random(3)
        index = document_index.DocumentIndex(started().state, 8)
        points = numpy.array([[chance.randint(-9, 9) for _ in range(8)] for _ in range(300)], numpy.float32)
        points[100:200] = points[:100]  # equal ones, to be told apart by id
        for number, point in enumerate(points):
            index.put(f"{number:03}", point, "", None)
        index.refresh()
        for limit in (1, 7, 299, 300, 301):
            # Whole numbers: their products are exact in any order.
            query = numpy.array([chance.randint(-9, 9) for _ in range(8)], numpy.float32)
            expected = sorted((-float(score), f"{row:03}") for row, score in enumerate(points @ query))[:limit]
            actual = [(found["id"], found["score"]) for found in index.nearest(query, limit)]
            self.assertEqual(actual, [(id, -score) for score, id in expected])


if __name__ == "__main__":
    unittest.main()
