"""The documents in the helper's state, and their vectors in memory to search them.

Owns how documents are kept. The state is the truth and memory follows it: whoever changes a document leaves a new mark, and
whoever answers compares the marks with those that its memory was read at. So replicas find each other's documents, and what
a refused or failed call would have written is in nobody's memory.

Documents are spread over buckets by their ids. Each has marks and keys of its own, so a change costs reading one bucket's
keys; and a changed document has a new key, so that of its documents only the new ones are read.

    marks/BUCKET/RANDOM                 nothing: that it is there says what the bucket is like
    documents/BUCKET/TIME-RANDOM/ID     the vector, then text and metadata as JSON
"""

import hashlib
import json
import secrets
import time

import numpy
from raas import WrongArguments

DOCUMENTS_MAX = 10_000
BUCKETS = "0123456789abcdef"
# What one list of the state can give: more than a bucket's share of the most documents, which is 625.
KEYS_MAX = 1_000
# Of a score.
DECIMALS = 6


class DocumentIndex:
    """Documents by id. `refresh` before anything else in a call."""

    def __init__(self, state, vector_size):
        self.state = state
        self.buckets = {name: Bucket(name, vector_size) for name in BUCKETS}

    def refresh(self):
        """Makes memory as the state is."""
        marks = {name: [] for name in BUCKETS}
        for mark in self.state.list("marks/", KEYS_MAX):
            marks[mark.split("/")[1]].append(mark)
        for name, bucket in self.buckets.items():
            if bucket.marks != marks[name]:
                while not bucket.read(self.state):
                    pass
                # They were listed before the keys: what was put since then is in memory already, or left a later mark.
                bucket.marks = marks[name]

    def put(self, id, vector, text, metadata):
        bucket = self.bucket(id)
        if id not in bucket.keys and sum(len(one.keys) for one in self.buckets.values()) >= DOCUMENTS_MAX:
            raise WrongArguments(f"there are {DOCUMENTS_MAX} documents already, the most there may be")
        self.replace(bucket, id)
        body = json.dumps({"text": text, "metadata": metadata}, ensure_ascii=False).encode()
        # In the order of their keys, a document's later version comes after its earlier one.
        key = f"documents/{bucket.name}/{time.time_ns():016x}-{secrets.token_hex(4)}/{id}"
        self.state.put(key, vector.astype("<f4").tobytes() + body)

    def remove(self, id):
        bucket = self.bucket(id)
        if id not in bucket.keys:
            raise WrongArguments(f"there is no document {id!r}")
        self.replace(bucket, id)

    def replace(self, bucket, id):
        """Deletes what there is of a document, and puts a new mark in place of the bucket's old ones.

        Random, so that no two replicas leave the same; where two leave one at the same time, both stay until the next.
        """
        for key in bucket.keys.get(id, ()):
            self.state.delete(key)
        for mark in bucket.marks:
            self.state.delete(mark)
        self.state.put(f"marks/{bucket.name}/{secrets.token_hex(8)}", None)

    def nearest(self, vector, limit):
        """The documents with the highest cosine, best first; of equal ones, the first by id."""
        found = [one for bucket in self.buckets.values() for one in bucket.nearest(vector, limit)]
        found.sort()
        return [{**bucket.document(row), "score": round(-score, DECIMALS)} for score, _, bucket, row in found[:limit]]

    def listed(self, prefix, limit):
        """Documents in the order of their ids."""
        found = [
            (id, bucket, row)
            for bucket in self.buckets.values()
            for row, id in enumerate(bucket.ids)
            if id.startswith(prefix)
        ]
        return [bucket.document(row) for _, bucket, row in sorted(found)[:limit]]

    def bucket(self, id):
        return self.buckets[hashlib.sha256(id.encode()).hexdigest()[0]]


class Bucket:
    """The documents of one bucket, in memory."""

    def __init__(self, name, vector_size):
        self.name = name
        self.vector_size = vector_size
        self.marks = []
        # All keys of each document, oldest first. Two replicas that put the same one at the same time leave two.
        self.keys = {}
        # Row by row: id, newest key, vector, and the rest of the document as JSON.
        self.ids = []
        self.newest = []
        self.vectors = numpy.empty((0, vector_size), numpy.float32)
        self.bodies = []

    def read(self, state):
        """Takes over what changed. False where a document was listed and gone before it was read: there is a newer list."""
        keys = {}
        for key in state.list(f"documents/{self.name}/", KEYS_MAX):
            keys.setdefault(key.split("/", 3)[3], []).append(key)
        ids = {of_document[-1]: id for id, of_document in keys.items()}
        kept = [row for row, key in enumerate(self.newest) if key in ids]
        newest = [self.newest[row] for row in kept]
        bodies = [self.bodies[row] for row in kept]
        vectors = []
        for key in ids.keys() - set(newest):
            value = state.get(key)
            if value is None:
                return False
            newest.append(key)
            vectors.append(numpy.frombuffer(value, "<f4", self.vector_size))
            bodies.append(value[self.vector_size * 4 :])
        self.keys = keys
        self.ids = [ids[key] for key in newest]
        self.newest = newest
        self.vectors = numpy.concatenate([self.vectors[kept], *(vector[None] for vector in vectors)])
        self.bodies = bodies
        return True

    def nearest(self, vector, limit):
        """Negated score, id, bucket and row of those that may be among the nearest, to be sorted."""
        # Where a row lies decides the last bits of its product; without them, equal vectors have equal scores.
        scores = (self.vectors @ vector).round(DECIMALS)
        rows = numpy.arange(len(scores))
        if limit < len(scores):
            # All that are no worse than the last place, so that equal ones are compared by id.
            rows = numpy.flatnonzero(scores >= numpy.partition(scores, -limit)[-limit])
        return [(-float(scores[row]), self.ids[row], self, row) for row in rows.tolist()]

    def document(self, row):
        return {"id": self.ids[row], **json.loads(self.bodies[row])}
