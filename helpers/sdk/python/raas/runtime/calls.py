"""What code asks of the platform while it runs: CALL frames out, ANSWER frames back to whoever waits.

Owns the table of calls in flight, and the waiting. Who waits for an answer may be the very thread that reads the socket, so
waiting is reading: the ways of serving say how (`wait`). Knows nothing of what an operation means.
"""

import json
import struct
import traceback
from _thread import RLock, allocate_lock
from collections import deque
from itertools import count
from select import POLLIN, poll

from .frames import ANSWER, CALL, CANCEL, HEADER
from .idle import receive
from .logs import current_origin

HELPER, STATE_GET, STATE_LIST, STATE_COMMIT, HELPER_POSITIONAL = 1, 2, 3, 4, 5
CALL_PREFIX = struct.Struct("<QBH")
# More at once would end the connection.
IN_FLIGHT_MAX = 1000
LOOK_EVERY_MS = 10
DROPPED = b"\x01" + json.dumps(
    {
        "type": "Cancelled",
        "message": "the invocation in which this was asked for was answered or cancelled before",
        "code": "cancelled",
        "origin": "caller",
        "retryable": False,
    }
).encode()


class Waiter:
    """One call, waited for by a thread."""

    __slots__ = ("abandoned", "answer", "request_id", "_woken")

    def __init__(self):
        self.abandoned = False
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

    def sleep(self, timeout_s=-1):
        """Until somebody wakes it: with an answer, or for it to look for itself."""
        self._woken.acquire(True, timeout_s)


class FutureWaiter:
    """One call, waited for by a task of the event loop that also reads."""

    __slots__ = ("abandoned", "request_id", "_future", "_loop")

    def __init__(self, loop):
        self.abandoned = False
        self._loop = loop
        self._future = loop.create_future()

    def complete(self, payload):
        # Read by a thread that waits for its own answer, or by the loop itself.
        self._loop.call_soon_threadsafe(self._set, payload)

    def wake(self):
        """The loop reads anyway."""

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
        # Guards the two tables. Both locks are re-entrant: a signal handler may call, or raise, in the middle of anything
        # that its own thread does.
        self._lock = RLock()
        self._pending = {}
        self._unsent = deque()
        self._reading = RLock()
        self._serving = False
        self._taken_over = False
        #: What the serving thread sleeps by while another one reads.
        self._server = Waiter()
        self._server_waits = False
        #: Frames that were read by who waited for an answer.
        self.deferred = deque()
        #: How a thread waits; the ways of serving may put their own here.
        self.wait = self._wait
        #: The event loop that reads, if one does: its tasks can wait without a thread.
        self.loop = None

    def call(self, operation, target, body=b""):
        """Sends a CALL and waits for its ANSWER: (whether it was done, its body)."""
        waiter = Waiter()
        self._send(waiter, operation, target, body)
        try:
            self.wait(waiter)
        finally:
            # An exception of a signal handler ends the waiting early.
            waiter.abandoned = True
        return waiter.answer[0] == 0, waiter.answer[1:]

    async def call_async(self, operation, target, body=b""):
        """The same for a task of `loop`."""
        waiter = FutureWaiter(self.loop)
        self._send(waiter, operation, target, body)
        try:
            answer = await waiter
        finally:
            waiter.abandoned = True
        return answer[0] == 0, answer[1:]

    def _send(self, waiter, operation, target, body):
        if self._connection.detached:
            raise RuntimeError("a forked child has no connection to the platform; ask for it in the process that forked")
        waiter.request_id = current_origin().request_id
        name = target.encode()
        size = CALL_PREFIX.size + len(name) + len(body)
        prefix = CALL_PREFIX.pack(waiter.request_id, operation, len(name))
        call_id = next(self._ids)
        frame = HEADER.pack(size, CALL, call_id) + prefix + name + body
        with self._lock:
            self._unsent.append((call_id, waiter, frame))
            frames = self._next_frames()
        if frames:
            self._connection.send(frames)

    def _next_frames(self):
        """The frames for which there is a place, to be sent."""
        frames = []
        while self._unsent and len(self._pending) < IN_FLIGHT_MAX:
            call_id, waiter, frame = self._unsent.popleft()
            if not waiter.abandoned:
                self._pending[call_id] = waiter
                frames.append(frame)
        return b"".join(frames)

    def complete(self, call_id, payload):
        """Hands an ANSWER to who waits for it; nobody may any more."""
        with self._lock:
            waiter = self._pending.pop(call_id, None)
            frames = self._next_frames()
        if waiter is not None:
            waiter.complete(payload)
        if frames:
            self._connection.send(frames)

    def drop(self, request_id):
        """Ends the waiting in a request that was answered or cancelled: no ANSWER may come any more."""
        if not self._pending:
            return
        with self._lock:
            sent = [(call_id, waiter) for call_id, waiter in self._pending.items() if waiter.request_id == request_id]
            for call_id, _ in sent:
                del self._pending[call_id]
            dropped = [waiter for _, waiter in sent]
            dropped += [waiter for _, waiter, _ in self._unsent if waiter.request_id == request_id]
            for waiter in dropped:
                waiter.abandoned = True
            frames = self._next_frames()
        for waiter in dropped:
            waiter.complete(DROPPED)
        if frames:
            self._connection.send(frames)

    def anybody_waits(self):
        return bool(self._pending)

    def receive(self, receive_frames):
        """Returns when there is work for the serving thread in `deferred`. Answers on the way go to who waits."""
        self._serving = self._server_waits = True
        while not self.deferred:
            if self._reading.acquire(False):
                try:
                    while not self.deferred:
                        self._sort(receive_frames())
                finally:
                    self._reading.release()
            else:
                self._server.sleep()
        self._server_waits = False
        if self._pending:
            # The code's own threads wait for answers, and from here on nobody may be reading for them.
            self._wake_one()

    def take_over(self, wait):
        """Called by who serves with a way of its own to read: nobody else reads from here on. Gives what was kept."""
        self._serving = self._taken_over = True
        self._reading.acquire()  # for good
        self.wait = wait
        return self.deferred

    def _wait(self, waiter):
        while waiter.answer is None:
            if self._taken_over or not self._reading.acquire(False):
                waiter.sleep()
                continue
            try:
                while waiter.answer is None and not self._taken_over:
                    self._read()
            finally:
                self._reading.release()
                self._wake_one()

    def _read(self):
        if not self._serving:
            # Not known yet who reads while serving: this thread may have to stop.
            readable = poll()
            readable.register(self._connection.fileno(), POLLIN)
            if not readable.poll(LOOK_EVERY_MS):
                return
        self._sort(self._reader.feed(receive(self._connection, self._reader)))

    def _sort(self, frames):
        for kind, request_id, payload in frames:
            if kind == ANSWER:
                self.complete(request_id, payload)
                continue
            if kind == CANCEL:
                self.drop(request_id)
            self.deferred.append((kind, request_id, payload))
            if self._server_waits:
                self._server.wake()

    def _wake_one(self):
        """Has one of those who wait read, since who did so until now has stopped."""
        if self._server_waits:
            self._server.wake()
            return
        with self._lock:
            waiters = [waiter for waiter in self._pending.values() if not waiter.abandoned]
        if waiters:
            waiters[0].wake()


def refusal(body):
    """The fields of a refusal."""
    try:
        fields = json.loads(body)
        fields["message"]
    except (ValueError, KeyError, TypeError):
        fields = {"message": "the platform refused the call", "code": "unknown"}
    known = ("message", "code", "origin", "retryable", "error", "type")
    return {key: fields[key] for key in known if key in fields}
