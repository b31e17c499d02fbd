"""Which routes are asked for, and so worth computing before anybody asks.

Owns how questions are counted and kept. A question is the list of its arguments as they were given, `["SEA", "MIA"]` or
`["SEA", "MIA", 900]`: an answer is found again only by the same arguments.

A replica counts in memory and now and then puts what it counted under a new key, so that a question costs no write and no
two replicas write the same key. Training takes those keys away and adds them to the one list of popular questions.
"""

import threading
import time
import uuid

# The Federal Aviation Administration's large hubs, roughly the busiest first: who flies at all mostly flies between these.
LARGE_HUBS = (
    "ATL DFW DEN LAX ORD JFK MCO LAS CLT MIA SEA SFO EWR PHX IAH BOS "
    "FLL MSP LGA DTW PHL SLC BWI DCA IAD SAN TPA BNA AUS MDW HNL"
).split()

POPULAR = "popular"
ASKED_PREFIX = "asked/"
KEEP_EVERY_S = 60
# What a busy minute has at most; in the state it is some 150 KB, far below the 1 MiB of a value.
QUESTIONS_COUNTED_MAX = 5_000
QUESTIONS_POPULAR_MAX = 5_000
# One training takes as many batches as one commit can delete, with room for the list itself; the rest waits for the next.
BATCHES_MAX = 900
# Where nobody trains, batches are gone after a week.
BATCH_KEPT_S = 7 * 86_400


class AskedQuestions:
    """What this replica was asked since it last kept its counts."""

    def __init__(self, state):
        self.state = state
        self.lock = threading.Lock()
        self.counts = {}
        self.expected = set()
        self.kept_at = time.monotonic()

    def expect(self, questions):
        """The platform will ask these itself, to have the answers ready: once each, that does not count."""
        with self.lock:
            self.expected = {tuple(question) for question in questions}

    def count(self, question):
        question = tuple(question)
        with self.lock:
            if question in self.expected:
                self.expected.discard(question)
            elif question in self.counts or len(self.counts) < QUESTIONS_COUNTED_MAX:
                self.counts[question] = self.counts.get(question, 0) + 1

    def keep(self, least_s=0):
        """Puts the counts into the state, where there are any and the last time was at least that long ago."""
        with self.lock:
            if not self.counts or time.monotonic() - self.kept_at < least_s:
                return
            counts, self.counts = self.counts, {}
            self.kept_at = time.monotonic()
        batch = [[list(question), count] for question, count in counts.items()]
        self.state.put(ASKED_PREFIX + uuid.uuid4().hex, batch, ttl_s=BATCH_KEPT_S)


def fold(state, decay, least):
    """Adds what all replicas kept to the list of popular questions; older counts shrink by `decay`, below `least` they go.

    Returns how many questions were counted since the last time and how many are popular now.
    """
    weights = {tuple(question): weight * decay for question, weight in popular(state)}
    asked = 0
    for key in state.list(ASKED_PREFIX, BATCHES_MAX):
        for question, count in state.get(key, []):
            weights[tuple(question)] = weights.get(tuple(question), 0) + count
            asked += count
        state.delete(key)
    ranked = sorted(weights.items(), key=lambda one: (-one[1], str(one[0])))
    ranked = [[list(question), round(weight, 3)] for question, weight in ranked if weight >= least]
    kept = ranked[:QUESTIONS_POPULAR_MAX]
    state.put(POPULAR, kept)
    return {"asked": asked, "popular": len(kept)}


def popular(state):
    """`[question, weight]`, the most popular first."""
    return state.get(POPULAR, [])


def expected_questions(state, hubs, most):
    """The popular questions, then the pairs of hubs, those of the busiest first; `most` in all."""
    questions = dict.fromkeys(tuple(question) for question, _ in popular(state))
    ranks = range(len(hubs))
    pairs = sorted((a + b, a, b) for a in ranks for b in ranks if a != b)
    questions.update(dict.fromkeys((hubs[a], hubs[b]) for _, a, b in pairs))
    return [list(question) for question in questions][:most]
