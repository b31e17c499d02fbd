"""The frames of the contract: kinds, limits, packing, and an incremental parser.

Owns the byte layout and nothing else: no sockets, no JSON. The parser is fed whatever arrived, so the blocking loop and
the asyncio loop share it, and a test can dribble bytes into it.
"""

import struct

INIT = 0x01
INVOKE = 0x02
CANCEL = 0x03
STOP = 0x04
PING = 0x05
ANSWER = 0x06

BOOTED = 0x81
READY = 0x82
INIT_FAILED = 0x83
RESULT = 0x84
ERROR = 0x85
LOG = 0x86
PONG = 0x87
CALL = 0x89
READS = 0x8A

HEADER = struct.Struct("<IBQ")
HEADER_BYTES = HEADER.size
PAYLOAD_MAX_BYTES = 8 << 20
RECEIVE_BYTES = 64 << 10
RECEIVE_LARGE_BYTES = 1 << 20


class ProtocolError(Exception):
    """The other side sent what the contract does not allow; the connection is of no use any more."""


def frame(kind, request_id, payload=b""):
    """One frame as bytes, ready to send."""
    return HEADER.pack(len(payload), kind, request_id) + payload


class FrameReader:
    """Turns received bytes into `(kind, request_id, payload)` tuples, however the bytes were split."""

    __slots__ = ("_rest", "_missing_bytes")

    def __init__(self):
        self._rest = bytearray()
        self._missing_bytes = 0

    def receive_bytes(self):
        """How much to ask the socket for: more when a large frame is on its way."""
        return RECEIVE_LARGE_BYTES if self._missing_bytes > RECEIVE_BYTES else RECEIVE_BYTES

    def feed(self, data, unpack=HEADER.unpack_from, header_bytes=HEADER_BYTES):
        """All the frames that `data` completes, in order."""
        rest = self._rest
        size = len(data)
        if not rest and size >= header_bytes:
            # Nearly every read is exactly one frame: no buffer is touched then.
            length, kind, request_id = unpack(data)
            if length + header_bytes == size and length <= PAYLOAD_MAX_BYTES:
                return ((kind, request_id, data[header_bytes:]),)
        rest += data
        self._missing_bytes -= size
        if self._missing_bytes > 0:
            return ()
        return self._take_complete(rest)

    def _take_complete(self, rest):
        frames = []
        start = 0
        available = len(rest)
        missing = 0
        while available - start >= HEADER_BYTES:
            length, kind, request_id = HEADER.unpack_from(rest, start)
            if length > PAYLOAD_MAX_BYTES:
                raise ProtocolError(f"a frame of {length} bytes is over the limit of {PAYLOAD_MAX_BYTES}")
            end = start + HEADER_BYTES + length
            if end > available:
                missing = end - available
                break
            frames.append((kind, request_id, bytes(rest[start + HEADER_BYTES : end])))
            start = end
        del rest[:start]
        self._missing_bytes = missing
        return frames
