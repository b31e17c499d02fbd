"""Exceptions as the contract's error: type, message, and the function's own stack as bounded text.

Owns what a caller gets to see of a failure. Must not raise, whatever the exception does: a hostile `__str__`, a cycle, a
stack of thousands of frames.
"""

import os
import traceback
from json.encoder import encode_basestring

from .frames import frame

STACK_MAX_BYTES = 32 << 10
MESSAGE_MAX_BYTES = 8 << 10
SDK_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Frames of these are the machinery that brought the code to run, not the code.
HIDDEN_FILES = (
    os.path.join(SDK_FOLDER, "raas", ""),
    os.path.join(SDK_FOLDER, "boot.py"),
    "<frozen importlib",
    os.path.join(os.path.dirname(os.__file__), "importlib", ""),
)


def error_frame(kind, request_id, error, code_dir=""):
    """A frame of `kind` (ERROR or INIT_FAILED) that describes `error`."""
    name, message, stack = describe(error, code_dir)
    payload = error_payload(name, message, stack)
    # A class attribute of our own errors: what it says is known.
    code = getattr(type(error), "raas_error_code", None)
    if code is not None:
        payload = payload[:-1] + b',"code":"%s"}' % code.encode()
    return frame(kind, request_id, payload)


def error_payload(name, message, stack):
    """The JSON of an error; every part is made valid UTF-8 and bounded first."""
    return '{{"type":{},"message":{},"stack":{}}}'.format(
        encode_basestring(printable(name, 256)),
        encode_basestring(printable(message, MESSAGE_MAX_BYTES)),
        encode_basestring(printable(stack, STACK_MAX_BYTES)),
    ).encode()


def describe(error, code_dir=""):
    """Type, message and stack of an exception."""
    name = type(error).__name__
    if isinstance(error, SystemExit):
        return name, f"the function called sys.exit({safe_text(error.code, repr)})", stack_text(error, code_dir)
    message = safe_text(error, str)
    if isinstance(error, KeyError) and len(error.args) == 1:
        message = f"key {message} is missing"
    return name, message, stack_text(error, code_dir)


def safe_text(value, to_text):
    try:
        return to_text(value)
    except BaseException as failure:  # a hostile __str__ may raise anything
        return f"<{type(value).__name__} that cannot be shown: {type(failure).__name__}>"


def stack_text(error, code_dir):
    """The traceback with the frames of the runtime left out and the function's files named as its author knows them."""
    try:
        shown = traceback.TracebackException.from_exception(error, **COMPACT)
        keep_own_frames(shown, set())
        text = "".join(shown.format())
    except BaseException as failure:
        return f"{type(error).__name__} (its stack cannot be shown: {type(failure).__name__})"
    return text.replace(f'File "{code_dir}/', 'File "') if code_dir else text


# Leaves out contexts that would not be shown; Python 3.9 does not have it.
COMPACT = {"compact": True} if "compact" in traceback.TracebackException.__init__.__kwdefaults__ else {}


def keep_own_frames(shown, seen):
    """Cuts the hidden frames from an exception, its causes and its group members."""
    pending = [shown]
    while pending:
        part = pending.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack[:] = [own for own in part.stack if not own.filename.startswith(HIDDEN_FILES)]
        if not part.stack:
            # Without a single frame the heading "Traceback" would announce nothing.
            part.stack = None
            part.exc_traceback = None  # what Python 3.9 asks instead
        pending += (part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ()))


def printable(text, max_bytes):
    """Valid UTF-8 of at most `max_bytes`; what is too long loses its middle, since both ends tell the most."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > max_bytes:
        gap = f"\n… [{len(data) - max_bytes} bytes left out] …\n".encode()
        head = (max_bytes - len(gap)) // 3
        tail = max_bytes - len(gap) - head
        data = data[:head] + gap + data[-tail:]
    return data.decode("utf-8", "ignore")
