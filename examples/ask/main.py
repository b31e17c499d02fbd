"""Answers questions about this platform's own words, out of a short list of them.

The helper `embed` finds the entries that mean what was asked, whatever words were used. It keeps the list in its state, so
this function tells it the list only where it has not got it yet, or has another.
"""

import json
import os

PREFIX = "faq/"
ANSWERS_MAX = 3
# Below that an entry is about something else.
SCORE_MIN = 0.25
QUESTION_MAX_CHARS = 1_000


def load_faq(path):
    """What the helper is to have: text by id, and metadata by id."""
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)
    return {PREFIX + entry["word"]: (f"{entry['question']} {entry['answer']}", entry) for entry in entries}


def teach(embed, faq):
    """Makes the helper's documents under PREFIX those of the list."""
    known = {document["id"]: document["text"] for document in embed.documents(prefix=PREFIX, limit=1_000)}
    for id, (text, entry) in faq.items():
        if known.get(id) != text:
            embed.add(id=id, text=text, metadata=entry)
    for id in known.keys() - faq.keys():
        embed.remove(id=id)


def require_question(event):
    question = event.get("question") if isinstance(event, dict) else None
    if not isinstance(question, str) or not 0 < len(question.strip()) <= QUESTION_MAX_CHARS:
        raise ValueError(f'the event has to be {{"question": TEXT}}, the text with 1 to {QUESTION_MAX_CHARS} characters')
    return question


def handler(event, context):
    """`{"question": "what survives a crash?"}` -> the entries that answer it, best first; none where none does."""
    global taught
    question = require_question(event)
    embed = context.helper("embed")
    if not taught:
        teach(embed, FAQ)
        taught = True
    found = embed.search(text=question, limit=ANSWERS_MAX)
    return {
        "question": question,
        "answers": [
            {"word": one["metadata"]["word"], "answer": one["metadata"]["answer"], "score": one["score"]}
            for one in found
            if one["id"] in FAQ and one["score"] >= SCORE_MIN
        ],
    }


FAQ = load_faq(os.path.join(os.path.dirname(os.path.abspath(__file__)), "faq.json"))
# Once in a process is enough: what the helper was told outlives it.
taught = False
