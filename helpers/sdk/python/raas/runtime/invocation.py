"""One invocation from INVOKE payload to answer frame, shared by the three ways of serving.

Owns the layout of the INVOKE payload, reading the event, and the order of what happens when a handler ends: close its
log lines, drop its calls, then answer. Knows no sockets and no threads.
"""

import json
import struct

from .context import Context
from .errors import error_frame
from .frames import ERROR, HEADER, RESULT
from .logs import INSTANCE, Origin, current
from .process_exit import leave_forked_child
from .results import encode_result

PREFIX = struct.Struct("<16sQH")
PREFIX_BYTES = PREFIX.size


class InvalidEvent(Exception):
    """The event is not the JSON text that the contract promises."""


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


decoder = json.JSONDecoder(parse_constant=refuse_constant)


def read_event(text, scan=decoder.scan_once):
    """The event's value. The scanner alone is the quick way; text with spaces around it takes the decoder."""
    try:
        value, end = scan(text, 0)
        if end == len(text):
            return value
    except StopIteration:
        pass
    return decoder.decode(text)


def read_invocation(payload, unpack=PREFIX.unpack_from, prefix_bytes=PREFIX_BYTES):
    """The handler's two arguments."""
    try:
        id_bytes, deadline_ms, trace_bytes = unpack(payload)
        start = prefix_bytes + trace_bytes
        event = read_event(payload[start:].decode())
    except (struct.error, ValueError, RecursionError) as error:
        raise InvalidEvent(f"the event cannot be read: {error}") from None
    return event, Context(id_bytes, deadline_ms, payload[prefix_bytes:start])


class Answerer:
    """Runs a handler and turns whatever comes of it into the frame that ends the request."""

    __slots__ = ("handler", "code_dir", "connection", "logs", "calls")

    def __init__(self, handler, code_dir, connection, logs, calls):
        self.handler = handler
        self.code_dir = code_dir
        self.connection = connection
        self.logs = logs
        self.calls = calls

    def answer(self, request_id, payload, watch=None):
        """The RESULT or ERROR frame of one call of a plain handler. `watch` is told the context before the call."""
        origin = Origin(request_id)
        current.set(origin)
        failure = None
        try:
            event, context = read_invocation(payload)
            if watch is not None:
                watch(request_id, context)
            body = encode_result(self.handler(event, context))
            answer = HEADER.pack(len(body), RESULT, request_id) + body
        except BaseException as error:  # sys.exit and KeyboardInterrupt are the function's errors, not our end
            failure = error
            answer = error_frame(ERROR, request_id, error, self.code_dir)
        self.close(origin, failure)
        return answer

    async def answer_async(self, request_id, payload, watch):
        """The same for an `async def` handler; runs in a task of its own, whose log origin it sets."""
        origin = Origin(request_id)
        current.set(origin)
        failure = None
        try:
            event, context = read_invocation(payload)
            watch(request_id, context)
            body = encode_result(await self.handler(event, context))
            answer = HEADER.pack(len(body), RESULT, request_id) + body
        except BaseException as error:
            failure = error
            answer = error_frame(ERROR, request_id, error, self.code_dir)
        self.close(origin, failure)
        return answer

    def close(self, origin, failure):
        if self.connection.detached:
            leave_forked_child(failure)
        if origin.lines is not None:
            self.logs.finish(origin)
        origin.open = False
        self.calls.drop(origin.request_id)
        current.set(INSTANCE)
