"""Serving an `async def` handler: one event loop for the life of the process, one task per request.

Owns the loop, so that clients and pools which a function makes once stay usable from call to call. The socket stays in
blocking mode and is read when the loop says that there is something, or by plain code of the loop's thread that waits for an
answer: sending needs no second code path then.
"""

import asyncio
import sys
import threading
import traceback
from collections import deque

from .frames import ANSWER, CANCEL, INVOKE, PING, PONG, STOP, ProtocolError, frame
from .idle import receive
from .process_exit import leave, stop

# How often a thread that waits looks whether the loop still reads.
LOOK_EVERY_S = 0.01


class TaskServer:
    """The frames of one connection as tasks on the running loop."""

    def __init__(self, connection, reader, backlog, answerer, calls, loop):
        self._calls = calls
        self._thread = threading.get_ident()
        self._connection = connection
        self._reader = reader
        self._answerer = answerer
        self._loop = loop
        # Read but not taken; whoever reads holds the lock, so that they keep their order.
        self._frames = deque(backlog)
        self._reading = threading.Lock()
        self._running = {}
        self._contexts = {}
        self._stopping = False
        # Last, since threads of the code may wait in this way at once.
        self._frames.extend(calls.take_over(self.wait))

    def on_readable(self):
        with self._reading:
            self._read_ready()
        self._take()

    @staticmethod
    def guarded(step):
        """Runs a step of the loop, which would only log an exception and go on with a broken connection."""
        try:
            step()
        except ProtocolError as error:
            print(f"the connection to the platform is broken: {error}", file=sys.stderr)
            leave(1)

    def start(self):
        self._loop.add_reader(self._connection.fileno(), self.guarded, self.on_readable)
        self._take_soon()

    def _read_ready(self):
        try:
            data = self._connection.receive_ready(self._reader.receive_bytes())
        except BlockingIOError:
            return
        except OSError:
            leave(0)
        if not data:
            leave(0)
        self._sort(data)

    def _sort(self, data):
        """Answers go to who waits at once, all else waits for the loop."""
        for one in self._reader.feed(data):
            if one[0] == ANSWER:
                self._calls.complete(one[1], one[2])
                continue
            if one[0] == CANCEL:
                self._calls.drop(one[1])
            self._frames.append(one)

    def _take_soon(self):
        self._loop.call_soon_threadsafe(self.guarded, self._take)

    def _take(self):
        while self._frames:
            kind, request_id, payload = self._frames.popleft()
            if kind == INVOKE:
                task = self._loop.create_task(self._run(request_id, payload))
                self._running[request_id] = task
            elif kind == PING:
                self._connection.send(frame(PONG, request_id))
            elif kind == CANCEL:
                self._cancel(request_id)
            elif kind == STOP:
                self._stopping = True
            else:
                raise ProtocolError(f"unknown frame kind {kind:#04x}")
        if self._stopping and not self._running:
            stop()

    def wait(self, waiter):
        """How a thread waits for the answer of a call: the loop's own reads itself, any other leaves that to the loop."""
        if threading.get_ident() == self._thread:
            while waiter.answer is None:
                with self._reading:
                    if waiter.answer is None:
                        self._sort(receive(self._connection, self._reader))
            if self._frames:
                self._take_soon()
            return
        while waiter.answer is None:
            waiter.sleep(LOOK_EVERY_S)
            # The loop may be kept by code that waits for this very thread.
            if waiter.answer is None and self._reading.acquire(False):
                try:
                    self._read_ready()
                finally:
                    self._reading.release()
                if self._frames:
                    self._take_soon()

    async def _run(self, request_id, payload):
        try:
            self._connection.send(await self._answerer.answer_async(request_id, payload, self._watch))
        finally:
            self._running.pop(request_id, None)
            self._contexts.pop(request_id, None)
            if self._stopping and not self._running:
                stop()

    def _watch(self, request_id, context):
        self._contexts[request_id] = context

    def _cancel(self, request_id):
        task = self._running.get(request_id)
        if task is None:
            return
        context = self._contexts.get(request_id)
        if context is None:
            # Its first step has not run, and a task cancelled before that never gets to answer.
            self._loop.call_soon(self._cancel, request_id)
            return
        context.cancelled = True
        task.cancel()


def serve(connection, reader, backlog, answerer, calls):
    """Runs until STOP or the end of the connection; does not return."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    calls.loop = loop
    TaskServer(connection, reader, backlog, answerer, calls, loop).start()
    while True:
        try:
            loop.run_forever()
        except BaseException:  # a signal handler of the function raised between two steps; the tasks are unharmed
            traceback.print_exc()
