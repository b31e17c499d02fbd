"""Waiting for bytes from the platform.

Owns what may happen meanwhile: the end of the connection, and exceptions from signal handlers. Between requests these were
left behind by the function (an alarm that was never cancelled), and must not end an instance that does nothing wrong.
"""

import traceback

from .process_exit import leave


def receive(connection, reader):
    """The next bytes; leaves the process when there are no more. Raises what a signal handler raises."""
    try:
        data = connection.receive(reader.receive_bytes())
    except OSError as error:
        if error.errno is None:
            raise  # by a signal handler, a TimeoutError for one
        leave(0)
    if not data:
        leave(0)
    return data


def receive_or_report(connection, reader):
    """The same outside any request."""
    while True:
        try:
            return receive(connection, reader)
        except BaseException:
            traceback.print_exc()
