"""The second argument of a handler.

Owns the names that function code relies on. Holds raw bytes and makes text of them only when asked: most handlers never
look at the context.
"""

from time import time


class Context:
    """What a handler can know about its invocation. Times are in milliseconds, `deadline_ms` since the Unix epoch.

    `cancelled` turns true when the answer is no longer wanted, where the runtime can read that while the handler runs.
    """

    __slots__ = ("cancelled", "deadline_ms", "_id_bytes", "_trace_bytes")

    function_name = ""
    function_version = ""
    memory_mb = 0
    #: The helpers that the function is bound to: `context.helper("geo").route(src="SEA")`.
    helper = None

    def __init__(self, id_bytes, deadline_ms, trace_bytes):
        self._id_bytes = id_bytes
        self._trace_bytes = trace_bytes
        self.deadline_ms = deadline_ms
        self.cancelled = False

    @property
    def invocation_id(self):
        """The invocation's id as UUID text."""
        text = self._id_bytes.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    @property
    def traceparent(self):
        """The W3C trace parent, or an empty string."""
        return self._trace_bytes.partition(b"\n")[0].decode("ascii", "replace")

    @property
    def tracestate(self):
        """The W3C trace state, or an empty string."""
        return self._trace_bytes.partition(b"\n")[2].decode("ascii", "replace")

    def get_remaining_time_in_millis(self):
        """Milliseconds until the deadline, never below 0."""
        return max(0, self.deadline_ms - int(time() * 1000))

    def __repr__(self):
        return f"<Context {self.function_name} {self.invocation_id}>"


def describe_function(settings, helpers=None):
    """Sets what is the same for every invocation of this process, once, at INIT."""
    Context.helper = staticmethod(helpers) if helpers else None
    Context.function_name = settings["function_name"]
    Context.function_version = settings["function_version"]
    Context.memory_mb = settings["memory_mb"]
