"""Standard output and error as LOG frames, each tied to the request that printed it.

Owns the replacement of `sys.stdout` and `sys.stderr`, the splitting into lines and the question "whose line is this".
Knows how to pack a LOG frame and nothing else of the contract. Raw writes to descriptors 1 and 2 (children, C libraries)
are not touched: they reach the platform by the pipes.
"""

import io
import os
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context

from .frames import LOG, HEADER

STDOUT = 1
STDERR = 2
# The whole payload, stream byte included, stays within 64 KiB.
LINE_MAX_BYTES = (64 << 10) - 1
CUT_MARKER = " … [line cut at 64 KiB]".encode()


class Origin:
    """Who prints and writes: a request, or (id 0) the instance itself. Holds the lines that have no newline yet, and in a
    helper the writes to its state that are not committed yet."""

    __slots__ = ("request_id", "open", "lines", "writes")

    def __init__(self, request_id):
        self.request_id = request_id
        self.open = True
        self.lines = None
        self.writes = None

    def line(self, stream):
        if self.lines is None:
            self.lines = {}
        line = self.lines.get(stream)
        if line is None:
            line = self.lines[stream] = PartialLine()
        return line


class PartialLine:
    """Bytes of a line whose end has not been printed; holds no more of them than a LOG frame can carry."""

    __slots__ = ("parts", "size_bytes")

    def __init__(self):
        self.parts = []
        self.size_bytes = 0

    def add(self, data):
        room = LINE_MAX_BYTES + 1 - self.size_bytes
        if room > 0 and data:
            self.parts.append(data[:room])
            self.size_bytes += min(len(data), room)

    def take(self):
        data = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts = []
        self.size_bytes = 0
        return data


INSTANCE = Origin(0)
current = ContextVar("raas_log_origin", default=INSTANCE)


def current_origin():
    """The open request of this thread or task, else the instance."""
    origin = current.get()
    if origin is INSTANCE:
        origin = getattr(threading.current_thread(), "_raas_log_origin", INSTANCE)
    # What is left running after its request was answered belongs to the instance: the id may not be used again.
    return origin if origin.open else INSTANCE


def log_frame(stream, request_id, line):
    """One LOG frame; a line that is too long is cut and marked, bytes that are not UTF-8 are written as escapes."""
    try:
        text = line if line.isascii() else line.decode().encode()
    except UnicodeDecodeError:
        text = line.decode("utf-8", "backslashreplace").encode()
    if len(text) > LINE_MAX_BYTES:
        kept = text[: LINE_MAX_BYTES - len(CUT_MARKER)]
        text = kept.decode("utf-8", "ignore").encode() + CUT_MARKER
    return HEADER.pack(1 + len(text), LOG, request_id) + bytes((stream,)) + text


class LogBuffer(io.BufferedIOBase):
    """`sys.stdout.buffer`: takes bytes. The text layer writes through it, so both keep their order."""

    mode = "wb"

    def __init__(self, connection, stream):
        self._connection = connection
        self._stream = stream
        self._fd = stream
        self._make_lock()
        self.name = "<stdout>" if stream == STDOUT else "<stderr>"
        os.register_at_fork(after_in_child=self._make_lock)

    def _make_lock(self):
        # Re-entrant: a signal handler may print while its thread prints. New in a forked child: there the owner of a
        # taken lock may not exist.
        self._lock = threading.RLock()
        self._writing = False
        self._pending = deque()

    def write(self, data):
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        data = bytes(data)
        self.write_bytes(data)
        return len(data)

    def write_bytes(self, data):
        if self._connection.detached:
            write_raw(self._fd, data)
            return
        with self._lock:
            self._pending.append(data)
            self._write_pending()

    def _write_pending(self):
        # A signal handler or a finaliser may print in the middle of a line of its own thread, which no lock keeps out. It
        # only leaves its text; whoever was writing writes it too.
        while self._pending and not self._writing:
            self._writing = True
            try:
                while self._pending:
                    self._write_lines(self._pending.popleft())
            finally:
                self._writing = False

    def _write_lines(self, data):
        origin = current_origin()
        line = origin.line(self._stream)
        first_end = data.find(b"\n")
        if first_end < 0:
            line.add(data)
            return
        last_end = data.rfind(b"\n")
        line.add(data[:first_end])
        frames = log_frame(self._stream, origin.request_id, line.take())
        if first_end != last_end:
            middle = data[first_end + 1 : last_end].split(b"\n")
            frames += b"".join([log_frame(self._stream, origin.request_id, text) for text in middle])
        line.add(data[last_end + 1 :])
        self._connection.send(frames)

    def finish_line(self, origin):
        """Sends what the origin printed without a newline at the end."""
        with self._lock:
            self._writing = True
            try:
                line = origin.lines.get(self._stream)
                if line is not None and line.parts:
                    self._connection.send(log_frame(self._stream, origin.request_id, line.take()))
            finally:
                self._writing = False
            self._write_pending()

    def writable(self):
        return True

    def fileno(self):
        return self._fd

    def isatty(self):
        return False

    def close(self):
        """Does nothing: the platform's log stays open for whoever prints next."""


class LogStream(io.TextIOBase):
    """`sys.stdout` and `sys.stderr` of the function."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True
    write_through = True
    mode = "w"

    def __init__(self, buffer):
        self.buffer = buffer
        self.name = buffer.name
        self._write_bytes = buffer.write_bytes

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._write_bytes(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def writable(self):
        return True

    def fileno(self):
        return self.buffer.fileno()

    def isatty(self):
        return False

    def reconfigure(self, **_options):
        """Accepted and ignored: lines leave as UTF-8 when they are complete, whatever is asked for."""

    def close(self):
        """Does nothing, see `LogBuffer.close`."""


def write_raw(fd, data):
    """Writes to the pipe itself, as a forked child has to."""
    while data:
        data = data[os.write(fd, data) :]


class Logs:
    """The two streams, installed; `finish` closes the lines of a request."""

    def __init__(self, connection):
        self._buffers = (LogBuffer(connection, STDOUT), LogBuffer(connection, STDERR))
        sys.stdout = LogStream(self._buffers[0])
        sys.stderr = LogStream(self._buffers[1])
        inherit_in_threads()

    def finish(self, origin):
        """Called when the request is about to be answered."""
        for buffer in self._buffers:
            buffer.finish_line(origin)


def inherit_in_threads():
    """Makes threads and thread pools print for the request that started them or gave them work."""
    start = threading.Thread.start

    def start_for_request(self):
        self._raas_log_origin = current_origin()
        start(self)

    submit = ThreadPoolExecutor.submit

    def submit_for_request(self, function, /, *arguments, **named):
        return submit(self, copy_context().run, function, *arguments, **named)

    threading.Thread.start = start_for_request
    ThreadPoolExecutor.submit = submit_for_request
