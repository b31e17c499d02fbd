"""Waiting for bytes from the platform, outside any request.

Owns what may happen meanwhile: the end of the connection, and exceptions from signal handlers that the function left
behind (an alarm that was never cancelled), which must not end an instance that does nothing wrong.
"""

import traceback

from .process_exit import leave


def receive_or_report(connection, reader):
    """The next bytes; leaves the process when there are no more."""
    while True:
        try:
            data = connection.receive(reader.receive_bytes())
        except OSError as error:
            if error.errno is not None:
                leave(0)
            traceback.print_exc()
            continue
        except BaseException:
            traceback.print_exc()
            continue
        if not data:
            leave(0)
        return data
