"""`self.state` of a helper on the platform: reads go there, writes wait for the end of the call and go together.

Owns the buffer of a call's writes and the layout of a commit. A write outside of any call is a commit of its own.
"""

import json
import struct

from ..errors import StateError
from ..memory_state import LIST_MAX_KEYS, checked_key, checked_limit, checked_ttl_ms, decoded_value, encoded_value
from .calls import STATE_COMMIT, STATE_GET, STATE_LIST, refusal
from .logs import current_origin

COMMIT_MAX_BYTES = 4 << 20
COMMIT_MAX_WRITES = 1000
KEY_PREFIX = struct.Struct("<BH")
PUT_PREFIX = struct.Struct("<QcI")
PUT, DELETE = 1, 2


def collect_writes():
    """From here on the writes of what runs here wait to be taken: key to (form, value, time to live), or None to delete."""
    current_origin().writes = {}


def take_writes():
    """The writes that wait. What is left running and writes later commits by itself."""
    origin = current_origin()
    writes, origin.writes = origin.writes, None
    return writes or {}


class PlatformState:
    """What the instance keeps. Reads of a call see its own writes."""

    def __init__(self, calls):
        self._calls = calls

    def get(self, key, default=None):
        checked_key(key)
        writes = current_origin().writes
        if writes and key in writes:
            written = writes[key]
            return default if written is None else decoded_value(written[0], written[1])
        body = answered(self._calls.call(STATE_GET, key))
        return decoded_value(body[:1], body[1:]) if body else default

    def put(self, key, value, ttl_s=None):
        checked_key(key)
        form, data = encoded_value(value)
        self._write(key, (form, data, checked_ttl_ms(ttl_s)))

    def delete(self, key):
        checked_key(key)
        self._write(key, None)

    def list(self, prefix="", limit=100):
        """Keys in the order of their bytes."""
        checked_limit(limit)
        writes = list((current_origin().writes or {}).items())
        own = {key: write for key, write in writes if key.startswith(prefix)}
        # As many more as this call may have deleted of them.
        wanted = min(LIST_MAX_KEYS, limit + sum(write is None for write in own.values()))
        keys = set(json.loads(answered(self._calls.call(STATE_LIST, prefix, struct.pack("<I", wanted)))))
        for key, write in own.items():
            keys.discard(key) if write is None else keys.add(key)
        return sorted(keys, key=str.encode)[:limit]

    def commit(self, writes):
        """Makes the writes durable, all or none; returns when they are."""
        if writes:
            answered(self._calls.call(STATE_COMMIT, "", encoded_commit(writes)))

    async def commit_async(self, writes):
        """The same for a task of the event loop that serves."""
        if writes:
            answered(await self._calls.call_async(STATE_COMMIT, "", encoded_commit(writes)))

    def _write(self, key, write):
        writes = current_origin().writes
        if writes is None:
            self.commit({key: write})
        else:
            writes[key] = write


def answered(answer):
    """The body of an answer; raises the refusal that it may be instead."""
    done, body = answer
    if not done:
        raise StateError(**refusal(body))
    return body


def encoded_commit(writes):
    body = b"".join([encoded_write(key, write) for key, write in list(writes.items())])
    # Checked here, since what does not fit into a frame would end the instance.
    if len(writes) > COMMIT_MAX_WRITES or len(body) > COMMIT_MAX_BYTES:
        limits = f"one commit has at most {COMMIT_MAX_WRITES} writes and {COMMIT_MAX_BYTES} bytes"
        raise StateError(f"{limits}, not {len(writes)} and {len(body)}", code="invalid-state", origin="helper")
    return body


def encoded_write(key, write):
    name = key.encode()
    if write is None:
        return KEY_PREFIX.pack(DELETE, len(name)) + name
    form, data, ttl_ms = write
    return KEY_PREFIX.pack(PUT, len(name)) + name + PUT_PREFIX.pack(ttl_ms, form, len(data)) + data
