"""Serving an `async def` handler: one event loop for the life of the process, one task per request.

Owns the loop, so that clients and pools which a function makes once stay usable from call to call. The socket stays in
blocking mode and is only read when the loop says that there is something: sending needs no second code path then.
"""

import asyncio
import sys
import threading
import traceback

from .frames import ANSWER, CANCEL, INVOKE, PING, PONG, STOP, ProtocolError, frame
from .idle import receive_or_report
from .process_exit import leave, stop


class TaskServer:
    """The frames of one connection as tasks on the running loop."""

    def __init__(self, connection, reader, answerer, calls, loop):
        self._calls = calls
        self._thread = threading.get_ident()
        self._connection = connection
        self._reader = reader
        self._answerer = answerer
        self._loop = loop
        self._running = {}
        self._contexts = {}
        self._stopping = False

    def on_readable(self):
        try:
            data = self._connection.receive_ready(self._reader.receive_bytes())
        except BlockingIOError:
            return
        except OSError:
            leave(0)
        if not data:
            leave(0)
        self.guarded(lambda: self.take(self._reader.feed(data)))

    @staticmethod
    def guarded(step):
        """Runs a step of the loop, which would only log an exception and go on with a broken connection."""
        try:
            step()
        except ProtocolError as error:
            print(f"the connection to the platform is broken: {error}", file=sys.stderr)
            leave(1)

    def take(self, frames):
        for kind, request_id, payload in frames:
            if kind == INVOKE:
                task = self._loop.create_task(self._run(request_id, payload))
                self._running[request_id] = task
            elif kind == PING:
                self._connection.send(frame(PONG, request_id))
            elif kind == CANCEL:
                self._cancel(request_id)
            elif kind == ANSWER:
                self._calls.complete(request_id, payload)
            elif kind == STOP:
                self._stopping = True
            else:
                raise ProtocolError(f"unknown frame kind {kind:#04x}")
        if self._stopping and not self._running:
            stop()

    def wait(self, waiter):
        """How a thread waits for the answer of a call: any other lets the loop read, the loop's own reads itself."""
        if threading.get_ident() != self._thread:
            while waiter.answer is None:
                waiter.sleep()
            return
        while waiter.answer is None:
            frames = self._reader.feed(receive_or_report(self._connection, self._reader))
            later = []
            for one in frames:
                if one[0] == ANSWER:
                    self._calls.complete(one[1], one[2])
                else:
                    later.append(one)
            if later:
                self._loop.call_soon(self.guarded, lambda later=later: self.take(later))

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
    server = TaskServer(connection, reader, answerer, calls, loop)
    calls.wait = server.wait
    calls.loop = loop
    backlog += calls.deferred
    loop.add_reader(connection.fileno(), server.on_readable)
    loop.call_soon(server.guarded, lambda: server.take(backlog))
    while True:
        try:
            loop.run_forever()
        except BaseException:  # a signal handler of the function raised between two steps; the tasks are unharmed
            traceback.print_exc()
