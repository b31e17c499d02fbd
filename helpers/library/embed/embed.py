"""The helper `embed`: vectors of texts, how alike texts are, and documents that are found by what they mean.

Owns the methods and what arguments they refuse. The schemas in `schemas/` refuse wrong shapes before a call gets here; the
limits are checked here too, since code outside the platform has no schemas.
"""

import json

from document_index import DocumentIndex
from encoder import Encoder, model_folder
from raas import Helper, WrongArguments, method

TEXT_MAX_CHARS = 20_000
TEXTS_MAX = 64
ID_MAX_BYTES = 256
METADATA_MAX_BYTES = 16 * 1024
SEARCH_LIMIT_MAX = 100
DOCUMENTS_LIMIT_MAX = 1_000
# What single precision tells apart in numbers of at most 1.
DECIMALS = 7


class Embed(Helper):
    def start(self):
        self.encoder = Encoder(model_folder())
        # The first product asks for memory and threads; better now than in somebody's call.
        self.encoder.embed(["ready"])
        self.index = DocumentIndex(self.state, self.encoder.size)
        self.index.refresh()

    @method
    def embed(self, text):
        """The text's vector: 384 numbers, of length 1."""
        return numbers(self.vector(text))

    @method
    def embed_many(self, texts):
        """A vector for each text."""
        if not isinstance(texts, list) or len(texts) > TEXTS_MAX:
            raise WrongArguments(f"texts is a list of at most {TEXTS_MAX}")
        return numbers(self.encoder.embed([checked_text(text) for text in texts]))

    @method
    def similarity(self, a, b):
        """How alike two texts are, from -1 to 1: the cosine of the angle between their vectors."""
        first, second = self.encoder.embed([checked_text(a), checked_text(b)])
        return round(float(first @ second), DECIMALS)

    @method
    def add(self, id, text, metadata=None):
        """Keeps a document, in place of the one with that id."""
        checked_id(id)
        checked_metadata(metadata)
        vector = self.vector(text)
        self.index.refresh()
        self.index.put(id, vector, text, metadata)
        return {"id": id}

    @method
    def remove(self, id):
        checked_id(id)
        self.index.refresh()
        self.index.remove(id)
        return {"id": id}

    @method
    def search(self, text, limit=5):
        """The documents that are nearest to the text: id, text, metadata and score, best first."""
        checked_limit(limit, SEARCH_LIMIT_MAX)
        vector = self.vector(text)
        self.index.refresh()
        return self.index.nearest(vector, limit)

    @method
    def documents(self, prefix="", limit=100):
        """Documents whose ids begin so, in the order of their ids."""
        if not isinstance(prefix, str):
            raise WrongArguments("prefix is text")
        checked_limit(limit, DOCUMENTS_LIMIT_MAX)
        self.index.refresh()
        return self.index.listed(prefix, limit)

    def vector(self, text):
        return self.encoder.embed([checked_text(text)])[0]


def numbers(array):
    """For JSON, without the digits that single precision does not have."""
    return array.astype(float).round(DECIMALS).tolist()


def checked_text(text):
    if not isinstance(text, str) or not text.strip():
        raise WrongArguments("a text has at least one character that is not white space")
    if len(text) > TEXT_MAX_CHARS:
        raise WrongArguments(f"a text has at most {TEXT_MAX_CHARS} characters, not {len(text)}")
    return text


def checked_id(id):
    if not isinstance(id, str) or not 0 < len(id.encode()) <= ID_MAX_BYTES:
        raise WrongArguments(f"an id is text of 1 to {ID_MAX_BYTES} bytes")


def checked_metadata(metadata):
    if not isinstance(metadata, (dict, type(None))) or len(json.dumps(metadata)) > METADATA_MAX_BYTES:
        raise WrongArguments(f"metadata is an object, as JSON at most {METADATA_MAX_BYTES} bytes")


def checked_limit(limit, most):
    if type(limit) is not int or not 1 <= limit <= most:
        raise WrongArguments(f"limit is a whole number from 1 to {most}")
