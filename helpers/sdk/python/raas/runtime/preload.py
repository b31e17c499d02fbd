"""The standard modules that functions import most, loaded while the process waits in the pool.

Owns the list. A module is on it if functions import it often and it costs little memory: every idle process in the pool
carries the whole list. What the runtime itself imports (asyncio, json, logging, threading) need not be named.
"""

import importlib

MODULES = (
    "base64",
    "collections",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "functools",
    "hashlib",
    "heapq",
    "hmac",
    "itertools",
    "logging",
    "math",
    "pathlib",
    "random",
    "re",
    "statistics",
    "string",
    "textwrap",
    "time",
    "typing",
    "urllib.parse",
    "uuid",
)


def preload():
    """Imports them; one that this interpreter lacks is left out."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            pass
