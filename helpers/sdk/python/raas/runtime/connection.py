"""The socket to the platform: takes over descriptor 3, receives bytes, sends whole frames.

Owns the descriptor and the promise that frames are never mixed or torn, whichever thread, signal handler or finaliser
sends them. Knows nothing of what the frames say. A child made by `fork` loses the socket here, so that it cannot answer
for its parent.
"""

import fcntl
import os
from _socket import MSG_DONTWAIT, socket
from _thread import allocate_lock, get_ident
from collections import deque

INHERITED_FD = 3
# Above what code closes or reuses by habit (`os.closerange(3, 256)`), below the usual soft limit of 1,024 descriptors.
PREFERRED_FD = 1000
JOIN_MAX_BYTES = 256 << 10
WAITING_FRAMES_MAX = 256
BUSY_WAIT_S = 0.1


class Connection:
    """The one connection of this process. `detached` is true in a forked child, which has no connection."""

    __slots__ = ("detached", "_fd", "_holder", "_lock", "_socket", "_socket_send", "_waiting", "receive")

    def __init__(self, fd):
        self.detached = False
        self._fd = fd
        # The C type itself: the `socket` module adds a Python layer to every call.
        self._socket = socket(fileno=fd)
        self._socket.settimeout(None)
        self._socket_send = self._socket.send
        self.receive = self._socket.recv
        self._waiting = deque()
        self._lock = allocate_lock()
        self._holder = 0
        os.register_at_fork(after_in_child=self._detach)

    @classmethod
    def take_inherited(cls):
        """Moves the inherited descriptor out of the way of user code and out of reach of children."""
        try:
            fd = fcntl.fcntl(INHERITED_FD, fcntl.F_DUPFD_CLOEXEC, PREFERRED_FD)
        except OSError:
            fd = fcntl.fcntl(INHERITED_FD, fcntl.F_DUPFD_CLOEXEC, INHERITED_FD + 1)
        os.close(INHERITED_FD)
        return cls(fd)

    def fileno(self):
        return self._fd

    def receive_ready(self, size_bytes):
        """Receives without waiting, for an event loop that was told that there is something to read."""
        return self.receive(size_bytes, MSG_DONTWAIT)

    def send(self, frames):
        """Sends one or more whole frames. Frames of one thread go out in the order of the calls.

        Whoever finds the lock free sends for everybody. Waiting for the lock instead would stop for ever where a signal
        handler or a finaliser prints in the middle of a send of its own thread.
        """
        self._waiting.append(frames)
        self._send_unless_busy()
        if len(self._waiting) > WAITING_FRAMES_MAX and self._holder != get_ident():
            # A thread that prints faster than the platform reads waits for its turn instead of filling the memory. Not for
            # ever: the sender itself may be waiting for something that this thread holds.
            if self._lock.acquire(True, BUSY_WAIT_S):
                self._lock.release()
            self._send_unless_busy()

    def _send_unless_busy(self):
        waiting = self._waiting
        lock = self._lock
        # Asked again after the release: what was added just before it would otherwise stay.
        while waiting and lock.acquire(False):
            self._holder = get_ident()
            try:
                self._send_waiting(waiting)
            finally:
                self._holder = 0
                lock.release()

    def _send_waiting(self, waiting):
        while waiting and not self.detached:
            data = waiting[0]
            if len(waiting) > 1 and len(data) < JOIN_MAX_BYTES:
                data = self._join_first(waiting, data)
            # `extend(map(...))` stores the count inside one C call. With `sent = send(data)` an exception from a signal
            # handler can come between the call and the assignment, and then nobody knows how much of a frame is out.
            sent = []
            try:
                sent.extend(map(self._socket_send, (data,)))
            except OSError as error:
                if error.errno is None:
                    raise  # by a signal handler, a TimeoutError for one
                # The platform is gone, and with it the reason to live.
                os._exit(0)
            finally:
                if not sent:
                    pass
                elif sent[0] == len(data):
                    waiting.popleft()
                else:
                    waiting[0] = data[sent[0] :]

    @staticmethod
    def _join_first(waiting, data):
        joined = []
        size = 0
        while waiting and size < JOIN_MAX_BYTES:
            joined.append(waiting.popleft())
            size += len(joined[-1])
        data = b"".join(joined)
        waiting.appendleft(data)
        return data

    def _detach(self):
        self.detached = True
        self._waiting.clear()
        self._lock = allocate_lock()
        self._socket.close()
