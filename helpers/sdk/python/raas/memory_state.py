"""A helper's state in memory, for code that runs outside the platform. Owns the checks that both kinds of state make."""

import json
from time import monotonic

KEY_MAX_BYTES = 512
VALUE_MAX_BYTES = 1 << 20
LIST_MAX_KEYS = 1000


def checked_key(key):
    """The key's bytes."""
    if not isinstance(key, str):
        raise TypeError(f"a key is text, not {type(key).__name__}")
    data = key.encode()
    if not 0 < len(data) <= KEY_MAX_BYTES:
        raise ValueError(f"a key has 1 to {KEY_MAX_BYTES} bytes, not {len(data)}")
    return data


def encoded_value(value):
    """The value as form and bytes: `b` for bytes, `j` for JSON text."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        form, data = b"b", bytes(value)
    else:
        form, data = b"j", json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if len(data) > VALUE_MAX_BYTES:
        raise ValueError(f"a value is at most {VALUE_MAX_BYTES} bytes, not {len(data)}")
    return form, data


def decoded_value(form, data):
    return bytes(data) if form == b"b" else json.loads(data)


#: A hundred years.
TTL_MAX_S = 100 * 366 * 86_400


def checked_ttl_ms(ttl_s):
    """Milliseconds; 0 for ever."""
    if ttl_s is None:
        return 0
    if not 0 < ttl_s <= TTL_MAX_S:
        raise ValueError(f"ttl_s is above 0 and at most {TTL_MAX_S}, not {ttl_s}")
    return max(1, int(ttl_s * 1000))


def checked_limit(limit):
    if not 0 < limit <= LIST_MAX_KEYS:
        raise ValueError(f"limit is from 1 to {LIST_MAX_KEYS}, not {limit}")


class MemoryState:
    """Values by key, gone with the process."""

    def __init__(self):
        self._entries = {}

    def get(self, key, default=None):
        checked_key(key)
        entry = self._live(key)
        return default if entry is None else decoded_value(entry[0], entry[1])

    def put(self, key, value, ttl_s=None):
        checked_key(key)
        ttl_ms = checked_ttl_ms(ttl_s)
        form, data = encoded_value(value)
        self._entries[key] = (form, data, monotonic() + ttl_ms / 1000 if ttl_ms else None)

    def delete(self, key):
        checked_key(key)
        self._entries.pop(key, None)

    def list(self, prefix="", limit=100):
        checked_limit(limit)
        keys = [key for key in self._entries if key.startswith(prefix) and self._live(key)]
        return sorted(keys, key=str.encode)[:limit]

    def _live(self, key):
        entry = self._entries.get(key)
        return None if entry is None or (entry[2] is not None and entry[2] <= monotonic()) else entry
