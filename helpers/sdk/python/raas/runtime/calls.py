"""What code asks of the platform while it runs: CALL frames out, ANSWER frames back to whoever waits.

Owns the table of calls in flight, and the waiting. Who waits for an answer may be the very thread that reads the socket, so
waiting is reading: the ways of serving say how (`wait`). Knows nothing of what an operation means.
"""

import json
import struct
from _thread import allocate_lock
from itertools import count

from .frames import ANSWER, CALL, HEADER
from .idle import receive_or_report
from .logs import current

HELPER, STATE_GET, STATE_LIST, STATE_COMMIT, HELPER_POSITIONAL = 1, 2, 3, 4, 5
CALL_PREFIX = struct.Struct("<QBH")


class Waiter:
    """One call in flight, waited for by a thread."""

    __slots__ = ("answer", "_woken")

    def __init__(self):
        self.answer = None
        self._woken = allocate_lock()
        self._woken.acquire()

    def complete(self, payload):
        self.answer = payload
        self.wake()

    def wake(self):
        try:
            self._woken.release()
        except RuntimeError:
            pass  # woken already

    def sleep(self):
        """Until somebody wakes it: with an answer, or for it to look for itself."""
        self._woken.acquire()


class FutureWaiter:
    """One call in flight, waited for by a task of the event loop that also reads."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop):
        self._loop = loop
        self._future = loop.create_future()

    def complete(self, payload):
        # Read by a thread that waits for its own answer, or by the loop itself.
        self._loop.call_soon_threadsafe(self._set, payload)

    def _set(self, payload):
        if not self._future.done():
            self._future.set_result(payload)

    def __await__(self):
        return self._future.__await__()


class Calls:
    """The calls of one process. Until it serves, whoever waits reads, and what is not an answer is kept for later."""

    def __init__(self, connection, reader):
        self._connection = connection
        self._reader = reader
        self._ids = count(1)
        self._pending = {}
        self._reading = allocate_lock()
        self._server_waits = False
        #: Frames that were read by who waited for an answer.
        self.deferred = []
        #: How a thread waits; the ways of serving put their own here.
        self.wait = self._wait

    def call(self, operation, target, body=b""):
        """Sends a CALL and waits for its ANSWER: (whether it was done, its body)."""
        waiter = Waiter()
        call_id = self._send(waiter, operation, target, body)
        try:
            self.wait(waiter)
        finally:
            self._pending.pop(call_id, None)
        return waiter.answer[0] == 0, waiter.answer[1:]

    async def call_async(self, loop, operation, target, body=b""):
        """The same for a task of `loop`."""
        waiter = FutureWaiter(loop)
        call_id = self._send(waiter, operation, target, body)
        try:
            answer = await waiter
        finally:
            self._pending.pop(call_id, None)
        return answer[0] == 0, answer[1:]

    def _send(self, waiter, operation, target, body):
        call_id = next(self._ids)
        self._pending[call_id] = waiter
        name = target.encode()
        size = CALL_PREFIX.size + len(name) + len(body)
        prefix = CALL_PREFIX.pack(current.get().request_id, operation, len(name))
        self._connection.send(HEADER.pack(size, CALL, call_id) + prefix + name + body)
        return call_id

    def complete(self, call_id, payload):
        """Hands an ANSWER to who waits for it; nobody may any more."""
        waiter = self._pending.pop(call_id, None)
        if waiter is not None:
            waiter.complete(payload)

    def anybody_waits(self):
        return bool(self._pending)

    def receive(self, receive_frames):
        """The serving thread's next frames: what was kept, or what comes. Answers on the way go to who waits."""
        self._server_waits = True
        with self._reading:
            self._server_waits = False
            frames, self.deferred = self.deferred, []
            if not frames:
                frames = receive_frames()
        if self._pending:
            # The code's own threads wait for answers, and from here on nobody reads for them.
            self.wake_one()
        return frames

    def wake_one(self):
        """Has one of those who wait read for itself, since nobody else will."""
        for waiter in list(self._pending.values()):
            if isinstance(waiter, Waiter):
                waiter.wake()
                return

    def _wait(self, waiter):
        while waiter.answer is None:
            if self._is_servers_turn() or not self._reading.acquire(False):
                waiter.sleep()
                continue
            try:
                while waiter.answer is None and not self._is_servers_turn():
                    self._take()
            finally:
                self._reading.release()
                if not self._is_servers_turn():
                    self.wake_one()

    def _is_servers_turn(self):
        """Whether work was read that the serving thread is free to do."""
        return self._server_waits and bool(self.deferred)

    def _take(self):
        for kind, request_id, payload in self._reader.feed(receive_or_report(self._connection, self._reader)):
            if kind == ANSWER:
                self.complete(request_id, payload)
            else:
                self.deferred.append((kind, request_id, payload))


def refusal(body):
    """The fields of a refusal."""
    try:
        fields = json.loads(body)
        fields["message"]
    except (ValueError, KeyError, TypeError):
        fields = {"message": "the platform refused the call", "code": "unknown"}
    known = ("message", "code", "origin", "retryable", "error", "type")
    return {key: fields[key] for key in known if key in fields}
