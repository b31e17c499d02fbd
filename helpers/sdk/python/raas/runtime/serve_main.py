"""Serving one request at a time on the main thread: exclusive mode with a plain handler.

Owns the shortest way from a frame to its answer. Starts no thread, so that a function that forks or uses signals finds an
ordinary single-threaded process. While the handler runs no frame is read: PING waits, CANCEL comes too late to matter.
"""

import traceback

from .frames import CANCEL, INVOKE, PING, PONG, STOP, ProtocolError, frame
from .idle import receive_or_report
from .process_exit import stop


def serve(connection, reader, backlog, answerer, calls):
    """Runs until STOP or the end of the connection; does not return."""
    answer = answerer.answer
    send = connection.send
    feed = reader.feed
    receive = lambda: feed(receive_or_report(connection, reader))
    # What came while the code was loaded and asked the platform for something.
    calls.deferred.extendleft(reversed(backlog))
    deferred = calls.deferred
    while True:
        try:
            calls.receive(receive)
            while deferred:
                kind, request_id, payload = deferred.popleft()
                if kind == INVOKE:
                    send(answer(request_id, payload))
                elif kind == PING:
                    send(frame(PONG, request_id))
                elif kind == STOP:
                    stop()
                elif kind != CANCEL:
                    raise ProtocolError(f"unknown frame kind {kind:#04x}")
        except ProtocolError:
            raise
        except BaseException:  # a signal handler of the function raised outside of it; what waits is sent later
            traceback.print_exc()
