"""The ways in which this process ends on purpose.

Owns exit statuses: 0 after STOP or when the platform is gone, 1 when the contract was broken or INIT failed. Always by
`os._exit`, because the interpreter's own end waits for threads that the function may have left running.
"""

import atexit
import os
import sys
import traceback


_at_stop = []


def call_at_stop(function):
    """Has `function` called once at the orderly end, before exit handlers."""
    _at_stop.append(function)


def stop():
    """The orderly end: a helper's own end, then exit handlers of the code, then status 0."""
    for step in (*_at_stop, atexit._run_exitfuncs):
        try:
            step()
        except BaseException:
            traceback.print_exc()
    leave(0)


def leave(status):
    """Ends the process at once."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    os._exit(status)


def leave_forked_child(failure):
    """Ends a child that was forked by a handler and came back through it: only the parent answers."""
    status = 0
    if isinstance(failure, SystemExit):
        code = failure.code
        status = 0 if code is None else code & 0xFF if isinstance(code, int) else 1
    elif failure is not None:
        traceback.print_exception(type(failure), failure, failure.__traceback__)
        status = 1
    leave(status)
