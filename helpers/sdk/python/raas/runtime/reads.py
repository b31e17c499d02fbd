"""Which parts of its event a handler looked at, and the READS frame that says so before each answer.

Owns the pointers (RFC 6901) of a request, and what is told of them: the smallest parts that were looked at. How looking is
noticed is in `recorded_event`. Is only imported where INIT's `check` asks for it.
"""

import json

from .frames import READS, frame
from .invocation import Answerer
from .recorded_event import recorded

#: Who reads more than a frame may name reads the whole event.
POINTERS_MAX = 64
PAYLOAD_MAX_BYTES = 64 << 10
#: How many are kept while the handler runs: what lies in a list that is read whole later makes place then.
NOTED_MAX = 1024


class Reads:
    """What one request reads. A part of the event is named by its pointer, the event itself by an empty one."""

    __slots__ = ("_looked_at", "_handed_out", "_whole")

    def __init__(self):
        # Whose value, or absence, the handler knows.
        self._looked_at = {}
        # Objects and lists. Most are only on the way to something; one below which nothing was looked at may have been
        # looked at in a way that nobody notices (whether it is there, of which type it is, by code in C).
        self._handed_out = {}
        # Until a handler gets the event, nothing can be said.
        self._whole = True

    def recorded(self, event):
        """The event for the handler. Of one that has no members there is nothing to tell apart."""
        self._whole = type(event) is not dict or not event
        return event if self._whole else recorded(event, self)

    def look_at(self, pointer):
        if not pointer:
            self._whole = True
        if not self._whole:
            self._looked_at[pointer] = None
            self._keep_bounded()

    def hand_out(self, pointer):
        if pointer and not self._whole:
            self._handed_out[pointer] = None
            self._keep_bounded()

    def _keep_bounded(self):
        if len(self._looked_at) + len(self._handed_out) <= NOTED_MAX:
            return
        for noted in (self._looked_at, self._handed_out):
            for pointer in tuple(noted):
                if self._lies_in_read(pointer):
                    noted.pop(pointer, None)
        if len(self._looked_at) + len(self._handed_out) > NOTED_MAX:
            self._whole = True
            self._looked_at, self._handed_out = {}, {}

    def _lies_in_read(self, pointer):
        return any(above in self._looked_at for above in parts_above(pointer))

    def _smallest_parts(self):
        looked_at, handed_out = tuple(self._looked_at), tuple(self._handed_out)
        on_the_way = {above for pointer in looked_at + handed_out for above in parts_above(pointer)}
        ends = [pointer for pointer in handed_out if pointer not in on_the_way]
        return [pointer for pointer in dict.fromkeys((*looked_at, *ends)) if not self._lies_in_read(pointer)]

    def frame(self, request_id):
        """The READS frame of what was read until now."""
        return frame(READS, request_id, self._payload() or b'{"pointers":[],"whole":true}')

    def _payload(self):
        """What a frame can name, or None."""
        pointers = () if self._whole else self._smallest_parts()
        if self._whole or len(pointers) > POINTERS_MAX:
            return None
        try:
            text = json.dumps({"pointers": pointers, "whole": False}, ensure_ascii=False, separators=(",", ":"))
            payload = text.encode()
        except UnicodeEncodeError:
            return None  # a name with a lone surrogate
        return payload if len(payload) <= PAYLOAD_MAX_BYTES else None


def parts_above(pointer):
    """The pointers of what a part lies in, without the event itself."""
    end = pointer.rfind("/")
    while end > 0:
        yield pointer[:end]
        end = pointer.rfind("/", 0, end)


class RecordingAnswerer(Answerer):
    """Gives handlers events that record, and tells with each answer what was read, by writing the answer too."""

    __slots__ = ()

    def answer(self, request_id, payload, watch=None):
        reads = Reads()
        answer = self._answerer_of(reads).answer(request_id, payload, watch)
        return reads.frame(request_id) + answer

    async def answer_async(self, request_id, payload, watch):
        reads = Reads()
        answer = await self._answerer_of(reads).answer_async(request_id, payload, watch)
        return reads.frame(request_id) + answer

    def _answerer_of(self, reads):
        """One for a single request, so that those that run at once cannot mix."""
        handler = self.handler
        return Answerer(
            lambda event, context: handler(reads.recorded(event), context),
            self.code_dir,
            self.connection,
            self.logs,
            self.calls,
        )
