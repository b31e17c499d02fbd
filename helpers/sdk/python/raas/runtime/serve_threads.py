"""Serving several requests at once with a plain handler: one thread per request in flight, up to `concurrency`.

Owns the worker threads and the table of requests in flight. The main thread only reads frames, so PING is answered and
CANCEL is seen at once.
"""

import threading
from _queue import SimpleQueue

from .frames import CANCEL, INVOKE, PING, PONG, STOP, ProtocolError, frame
from .idle import receive_or_report
from .process_exit import stop


class Workers:
    """Threads that run handlers. They are started as needed: a limit of 1,000 is no reason for 1,000 stacks."""

    def __init__(self, connection, answerer, concurrency):
        self._send = connection.send
        self._answer = answerer.answer
        self._concurrency = concurrency
        self._calls = SimpleQueue()
        self._threads = 0
        self._running = {}
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)

    def start_call(self, request_id, payload):
        with self._lock:
            self._running[request_id] = None
            wanted = min(len(self._running), self._concurrency)
        self._calls.put((request_id, payload))
        if wanted > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name=f"raas-{self._threads}", daemon=True).start()

    def cancel(self, request_id):
        with self._lock:
            context = self._running.get(request_id)
            if context is not None:
                context.cancelled = True
            elif request_id in self._running:
                # Not begun yet: `_watch` hands the news on.
                self._running[request_id] = False

    def wait_until_quiet(self):
        with self._quiet:
            while self._running:
                self._quiet.wait()

    def _watch(self, request_id, context):
        with self._lock:
            context.cancelled = self._running.get(request_id) is False
            self._running[request_id] = context

    def _work(self):
        take = self._calls.get
        while True:
            request_id, payload = take()
            self._send(self._answer(request_id, payload, self._watch))
            with self._lock:
                self._running.pop(request_id, None)
                if not self._running:
                    self._quiet.notify_all()


def serve(connection, reader, backlog, answerer, concurrency):
    """Runs until STOP or the end of the connection; does not return."""
    workers = Workers(connection, answerer, concurrency)
    frames = backlog
    while True:
        for kind, request_id, payload in frames:
            if kind == INVOKE:
                workers.start_call(request_id, payload)
            elif kind == PING:
                connection.send(frame(PONG, request_id))
            elif kind == CANCEL:
                workers.cancel(request_id)
            elif kind == STOP:
                workers.wait_until_quiet()
                stop()
            else:
                raise ProtocolError(f"unknown frame kind {kind:#04x}")
        frames = reader.feed(receive_or_report(connection, reader))
