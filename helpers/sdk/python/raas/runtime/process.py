"""The life of the process in order: take the socket, say BOOTED, wait for INIT, load the handler, serve.

Owns that order and the choice of how to serve. Everything a handler is likely to import is imported here, before BOOTED,
while the process waits in the pool and nobody waits for it.
"""

import builtins
import faulthandler
import gc
import inspect
import json
import sys
import traceback
from time import perf_counter_ns

from . import serve_main, serve_tasks, serve_threads
from .bound_helpers import BoundHelpers
from .calls import Calls
from .connection import Connection
from .context import describe_function
from .errors import error_frame
from .frames import (
    BOOTED,
    CANCEL,
    INIT,
    INIT_FAILED,
    PING,
    PONG,
    READY,
    STOP,
    FrameReader,
    ProtocolError,
    frame,
)
from .handler import load_handler
from .helper_service import HelperService
from .idle import receive_or_report
from .invocation import Answerer
from .logs import INSTANCE, Logs
from .preload import preload
from .process_exit import call_at_stop, leave, stop


def main():
    """Runs the process; does not return."""
    connection = Connection.take_inherited()
    logs = Logs(connection)
    try:
        run(connection, logs)
    except ProtocolError as error:
        print(f"the connection to the platform is broken: {error}", file=sys.stderr)
        leave(1)
    except BaseException:
        traceback.print_exc()
        leave(1)


def run(connection, logs):
    prepare_interpreter()
    connection.send(frame(BOOTED, 0, booted_payload()))
    reader = FrameReader()
    init_payload, backlog = wait_for_init(connection, reader)
    calls = Calls(connection, reader)
    handler, settings = initialise(connection, logs, init_payload, calls)
    answerer = answerer_class(settings)(handler, settings["code_dir"], connection, logs, calls)
    concurrency = settings["concurrency"]
    if is_async(handler):
        serve_tasks.serve(connection, reader, backlog, answerer, calls)
    elif concurrency > 1:
        serve_threads.serve(connection, reader, backlog, answerer, calls, concurrency)
    else:
        serve_main.serve(connection, reader, backlog, answerer, calls)


def prepare_interpreter():
    """What makes INIT and calls cheaper or clearer later on."""
    preload()
    # Without the `site` module (-S) these two are missing, and short functions do use them.
    from _sitebuiltins import Quitter

    for name in ("exit", "quit"):
        if not hasattr(builtins, name):
            setattr(builtins, name, Quitter(name, "Ctrl-D (i.e. EOF)"))
    # A crash in native code then leaves its Python stack on the error pipe.
    faulthandler.enable(file=2)
    gc.collect()
    gc.freeze()


def booted_payload():
    version = "{}.{}.{}".format(*sys.version_info[:3])
    return json.dumps({"runtime": "python3", "version": version}).encode()


def wait_for_init(connection, reader):
    """INIT's payload, and the frames that came after it in the same read."""
    while True:
        frames = iter(reader.feed(receive_or_report(connection, reader)))
        for kind, request_id, payload in frames:
            if kind == INIT:
                return payload, list(frames)
            if kind == PING:
                connection.send(frame(PONG, request_id))
            elif kind == STOP:
                stop()
            elif kind != CANCEL:
                raise ProtocolError(f"frame kind {kind:#04x} before INIT")


def initialise(connection, logs, payload, calls):
    """The handler and INIT's settings, after READY was said; a failure is reported and ends the process."""
    started_ns = perf_counter_ns()
    code_dir = ""
    try:
        settings = json.loads(payload)
        code_dir = settings["code_dir"]
        helpers = BoundHelpers(calls, settings.get("helpers", ()))
        describe_function(settings, helpers)
        if settings.get("check") is not None:
            # What most processes never need is only imported here.
            from .check import prepare_check

            prepare_check(settings)
        facts = b""
        if settings.get("helper") is None:
            handler = load_handler(settings)
        else:
            service = HelperService(settings, calls, helpers)
            handler = service.handle_async if service.is_async else service.handle
            call_at_stop(service.stop)
            facts = json.dumps(service.description())[1:-1].encode()
        settings["concurrency"] = int(settings["concurrency"])
    except BaseException as error:
        if connection.detached:
            raise
        finish_lines(logs)
        connection.send(error_frame(INIT_FAILED, 0, error, code_dir))
        leave(1)
    finish_lines(logs)
    # What the modules made stays for good: collections need not look at it again.
    gc.freeze()
    init_us = (perf_counter_ns() - started_ns) // 1000
    connection.send(frame(READY, 0, b'{"init_us":%d%s%s}' % (init_us, b"," if facts else b"", facts)))
    return handler, settings


def answerer_class(settings):
    """What answers: one that records what is read of events, where INIT asks for that. A helper's event is the runtime's."""
    if settings.get("helper") is None and (settings.get("check") or {}).get("record_reads"):
        from .reads import RecordingAnswerer

        return RecordingAnswerer
    return Answerer


def finish_lines(logs):
    if INSTANCE.lines is not None:
        logs.finish(INSTANCE)


def is_async(handler):
    """Whether calling the handler gives a coroutine: an `async def`, a partial of one, an object with an async call."""
    while hasattr(handler, "func") and hasattr(handler, "keywords"):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))
