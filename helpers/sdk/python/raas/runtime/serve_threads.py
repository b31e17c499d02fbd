"""Serving several requests at once with a plain handler.

Waking another thread costs several times what a short handler does. So the thread that has read a request also runs it,
as long as handlers turn out to be quick: meanwhile the right to read lies on a table, and a second thread, the watch,
takes it from there when the same call is still running at its next look. From then on requests are handed to threads of
their own, until enough of them in a row were quick again.

Owns the threads and the table of requests in flight. The main thread only waits: it is where signal handlers run, and
where the process ends. A CANCEL or a PING is seen at once, or after the watch's next look while a call keeps its reader.
"""

import threading
import traceback
from _queue import SimpleQueue
from collections import deque
from time import perf_counter, sleep

from .frames import ANSWER, CANCEL, INVOKE, PING, PONG, STOP, ProtocolError, frame
from .idle import receive_or_report
from .process_exit import stop

# How often the watch looks, and so how long other requests may wait behind a call that turns out to be slow.
LOOK_EVERY_S = 0.002
# After so many looks at nothing the watch sleeps until it is woken by a call.
LOOKS_MAX = 25
# A handler is quick when it takes less than this, and is trusted to be after so many quick calls in a row.
QUICK_S = 0.001
QUICK_CALLS = 64
# Beside the threads that run calls, one reads, one watches and one waits to stop.
OTHER_THREADS = 3
QUIET_LOOK_S = 0.005


class Server:
    """The threads of one process. Whoever has the right to read is alone with `_frames` and the reader."""

    def __init__(self, connection, reader, backlog, answerer, calls, concurrency):
        self._connection = connection
        self._calls = calls
        # Whether the thread runs a call that it has read itself, with the right to read on the table meanwhile.
        self._own = threading.local()
        self._receive_frames = lambda: reader.feed(receive_or_report(connection, reader))
        self._frames = deque(backlog)
        self._answer = answerer.answer
        self._end = SimpleQueue()
        # The threads that have nothing to do, less the work that waits for one.
        self._spare = 0
        self._threads = 0
        self._threads_max = concurrency + OTHER_THREADS
        self._work = SimpleQueue()
        # Every request from its frame to its answer: None, then its context; False when it was cancelled before it began.
        self._running = {}
        self._lock = threading.Lock()
        self._quick = True
        self._quick_calls = 0
        # Holds one item while the reader runs a call. Taking it, which one thread alone can, is taking the right to read.
        self._table = []
        self._begun = 0
        self._watch_sleeps = False
        self._wake = SimpleQueue()
        # Last, since threads of the code may wait in this way at once.
        self._frames.extend(calls.take_over(self.wait))

    def run(self):
        """Runs until STOP or a broken connection; does not return."""
        self._give(self._read, ())
        self._give(self._watch, ())
        while True:
            try:
                end = self._end.get()
                break
            except BaseException:  # a signal handler that the function left behind raised
                traceback.print_exc()
        if end is not None:
            raise end
        stop()

    def _give(self, function, arguments):
        """Has a spare thread do something, or a new one up to the limit, or the first that becomes spare."""
        with self._lock:
            new = self._spare <= 0 and self._threads < self._threads_max
            if new:
                self._threads += 1
            else:
                self._spare -= 1
        if new:
            name = f"raas-{self._threads}"
            threading.Thread(target=self._serve, args=(function, arguments), name=name, daemon=True).start()
        else:
            self._work.put((function, arguments))

    def _serve(self, function, arguments):
        while True:
            try:
                function(*arguments)
            except BaseException as error:
                self._end.put(error)
                return
            with self._lock:
                self._spare += 1
            function, arguments = self._work.get()

    def _read(self):
        """What the thread does that has the right to read, until another one has it."""
        frames = self._frames
        while True:
            while frames:
                kind, request_id, payload = frames.popleft()
                if kind == INVOKE:
                    with self._lock:
                        self._running[request_id] = None
                    if not self._quick:
                        self._give(self._run_apart, (request_id, payload))
                    elif not self._run_here(request_id, payload):
                        return
                elif kind == STOP:
                    self._give(self._stop_when_quiet, ())
                else:
                    self._take(kind, request_id, payload)
            frames.extend(self._receive_frames())

    def _take(self, kind, request_id, payload):
        """What any reader does with a frame that is no work."""
        if kind == ANSWER:
            self._calls.complete(request_id, payload)
        elif kind == PING:
            self._connection.send(frame(PONG, request_id))
        elif kind == CANCEL:
            self._cancel(request_id)
            self._calls.drop(request_id)
        else:
            raise ProtocolError(f"unknown frame kind {kind:#04x}")

    def _stop_when_quiet(self):
        # Reading goes on: what still runs may wait for answers.
        while self._running:
            sleep(QUIET_LOOK_S)
        self._end.put(None)

    def wait(self, waiter):
        """How a thread waits for the answer of a call. Where nobody reads, it reads itself, which spares waking two threads;
        work that comes meanwhile goes to other threads."""
        while waiter.answer is None:
            if not self._take_right():
                waiter.sleep()
                continue
            try:
                while waiter.answer is None:
                    self._read_once()
            except BaseException as error:
                # Not the code's fault, and nobody reads any more.
                self._end.put(error)
                raise
            if getattr(self._own, "reads", False) and not self._calls.anybody_waits():
                self._lay_down()
            else:
                # Somebody has to read at once, and this thread has its call to go on with.
                self._give(self._read, ())

    def _read_once(self):
        """What a thread does that reads while its call waits: work is for other threads."""
        frames = self._frames
        if not frames:
            frames.extend(self._receive_frames())
        while frames:
            kind, request_id, payload = frames.popleft()
            if kind == INVOKE:
                with self._lock:
                    self._running[request_id] = None
                self._give(self._run_apart, (request_id, payload))
            elif kind == STOP:
                self._give(self._stop_when_quiet, ())
            else:
                self._take(kind, request_id, payload)

    def _lay_down(self):
        """Puts the right to read on the table while this thread runs a call."""
        self._begun += 1
        self._table.append(None)
        if self._watch_sleeps:
            self._watch_sleeps = False
            self._wake.put(None)

    def _run_here(self, request_id, payload):
        """Runs a call on the reading thread. Tells whether the thread still has the right to read."""
        self._lay_down()
        self._own.reads = True
        self._run(request_id, payload)
        self._own.reads = False
        return self._take_right()

    def _run_apart(self, request_id, payload):
        """Runs a call on a thread of its own, and watches whether calls have become quick."""
        if self._run(request_id, payload) >= QUICK_S:
            self._quick_calls = 0
            return
        self._quick_calls += 1
        if self._quick_calls >= QUICK_CALLS:
            self._quick = True

    def _run(self, request_id, payload):
        """Answers a call. Tells how long its handler took, seconds."""
        started = perf_counter()
        answer = self._answer(request_id, payload, self._begin)
        took = perf_counter() - started
        self._connection.send(answer)
        with self._lock:
            self._running.pop(request_id, None)
        return took

    def _take_right(self):
        try:
            self._table.pop()
        except IndexError:
            return False
        return True

    def _watch(self):
        """Looks whether the reader is kept by a call, and then becomes the reader itself."""
        seen = self._begun
        looks = 0
        while True:
            sleep(LOOK_EVERY_S)
            if self._begun != seen:
                seen = self._begun
                looks = 0
            elif self._table:
                if self._take_right():
                    break
            elif looks < LOOKS_MAX:
                looks += 1
            else:
                self._watch_sleeps = True
                # Asked again: a call may have begun before it could see that the watch sleeps. A call that did see it has
                # left something in the queue, which at worst ends the next sleep early.
                if self._begun == seen:
                    self._wake.get()
                self._watch_sleeps = False
        self._quick = False
        self._quick_calls = 0
        self._give(self._watch, ())
        self._read()

    def _begin(self, request_id, context):
        with self._lock:
            context.cancelled = self._running.get(request_id) is False
            self._running[request_id] = context

    def _cancel(self, request_id):
        with self._lock:
            context = self._running.get(request_id)
            if context:
                context.cancelled = True
            elif request_id in self._running:
                # Not begun yet: `_begin` hands the news on.
                self._running[request_id] = False


def serve(connection, reader, backlog, answerer, calls, concurrency):
    """Runs until STOP or the end of the connection; does not return."""
    Server(connection, reader, backlog, answerer, calls, concurrency).run()
