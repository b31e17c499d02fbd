"""`self.state` of a helper on the platform: reads go there, writes wait for the end of the call and go together.

Owns the buffer of a call's writes and the layout of a commit. A write outside of any call is a commit of its own.
"""

import json
import struct
from contextvars import ContextVar

from ..errors import StateError
from ..memory_state import checked_key, checked_ttl_ms, decoded_value, encoded_value
from .calls import STATE_COMMIT, STATE_GET, STATE_LIST, refusal

LIST_MAX_KEYS = 1000
KEY_PREFIX = struct.Struct("<BH")
PUT_PREFIX = struct.Struct("<QcI")
PUT, DELETE = 1, 2

# The writes of the call that runs here: key to (form, value, time to live), or None for a deleted one.
current_writes = ContextVar("raas_state_writes", default=None)


class PlatformState:
    """What the instance keeps. Reads of a call see its own writes."""

    def __init__(self, calls):
        self._calls = calls

    def get(self, key, default=None):
        checked_key(key)
        writes = current_writes.get()
        if writes and key in writes:
            written = writes[key]
            return default if written is None else decoded_value(written[0], written[1])
        body = self._ask(STATE_GET, key)
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
        if not 0 < limit <= LIST_MAX_KEYS:
            raise ValueError(f"limit is from 1 to {LIST_MAX_KEYS}, not {limit}")
        own = {key: write for key, write in (current_writes.get() or {}).items() if key.startswith(prefix)}
        # As many more as this call may have deleted of them.
        wanted = min(LIST_MAX_KEYS, limit + sum(write is None for write in own.values()))
        keys = set(json.loads(self._ask(STATE_LIST, prefix, struct.pack("<I", wanted))))
        for key, write in own.items():
            keys.discard(key) if write is None else keys.add(key)
        return sorted(keys, key=str.encode)[:limit]

    def commit(self, writes):
        """Makes the writes durable, all or none; returns when they are."""
        if writes:
            self._ask(STATE_COMMIT, "", b"".join(encoded_write(key, write) for key, write in writes.items()))

    def _write(self, key, write):
        writes = current_writes.get()
        if writes is None:
            self.commit({key: write})
        else:
            writes[key] = write

    def _ask(self, operation, target, body=b""):
        done, answer = self._calls.call(operation, target, body)
        if not done:
            raise StateError(**refusal(answer))
        return answer


def encoded_write(key, write):
    name = key.encode()
    if write is None:
        return KEY_PREFIX.pack(DELETE, len(name)) + name
    form, data, ttl_ms = write
    return KEY_PREFIX.pack(PUT, len(name)) + name + PUT_PREFIX.pack(ttl_ms, form, len(data)) + data
