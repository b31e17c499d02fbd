"""Starts the real runtime over a real socket pair at descriptor 3 and speaks frames with it: the harness of these tests.

Owns the platform's side of the contract as far as tests need it. Every wait is bounded by `WAIT_S`.
"""

import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import namedtuple

WAIT_S = 20
BOOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "boot.py")
ARGUMENTS = [os.environ.get("RAAS_TEST_PYTHON", sys.executable), "-I", "-S", "-B", "-X", "utf8", BOOT]

INIT, INVOKE, CANCEL, STOP, PING, ANSWER = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
BOOTED, READY, INIT_FAILED, RESULT, ERROR, LOG, PONG, CALL = 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x89
READS = 0x8A
HELPER, STATE_GET, STATE_LIST, STATE_COMMIT, HELPER_POSITIONAL = 1, 2, 3, 4, 5
HEADER = struct.Struct("<IBQ")
INVOCATION_ID = bytes(range(16))
HELPER_FACTS = {
    "instance_id": "0197",
    "publisher": "acme",
    "name": "geo",
    "version": "1.2.0",
    "instance": "my-geo",
    "config": {"hub": "SEA"},
    "data_version": 3,
    "dir": "/var/state",
    "purpose": "serve",
    "methods": {},
}

# What the runtime asked for: `parent` is the request in which it did.
Call = namedtuple("Call", "id parent operation target body")


def pack(kind, request_id=0, payload=b""):
    return HEADER.pack(len(payload), kind, request_id) + payload


def invoke_payload(event, deadline_ms=None, trace=b"", raw=False):
    text = event if raw else json.dumps(event).encode()
    if deadline_ms is None:
        deadline_ms = int(time.time() * 1000) + 30_000
    return struct.pack("<16sQH", INVOCATION_ID, deadline_ms, len(trace)) + trace + text


def read_call(call_id, payload):
    parent, operation, length = struct.unpack_from("<QBH", payload)
    return Call(call_id, parent, operation, payload[11 : 11 + length].decode(), payload[11 + length :])


def read_commit(body):
    """The writes of a commit: (key, form and value, time to live), or (key, None) for a deletion."""
    writes = []
    while body:
        what, length = struct.unpack_from("<BH", body)
        key, body = body[3 : 3 + length].decode(), body[3 + length :]
        if what == 2:
            writes.append((key, None))
            continue
        assert what == 1, what
        ttl_ms, form, size = struct.unpack_from("<QcI", body)
        writes.append((key, form + body[13 : 13 + size], ttl_ms))
        body = body[13 + size :]
    return writes


class Runtime:
    """One runtime process, at first only started; `boot`, `init` and `invoke` take it further."""

    def __init__(self, files=None, arguments=ARGUMENTS):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="raas-sdk-test-"))
        for name, text in (files or {}).items():
            path = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(textwrap.dedent(text))
        self.socket, theirs = socket.socketpair()
        self._fd = theirs.fileno()
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # The runtime expects descriptor 3 exactly; pass_fds keeps numbers, so a shell moves it there.
            preexec_fn=lambda: os.dup2(self._fd, 3) if self._fd != 3 else os.set_inheritable(3, True),
            close_fds=False,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
        )
        theirs.close()
        self.socket.settimeout(WAIT_S)
        self._received = b""
        self.logs = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        self.process.stdout.close()
        self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, data):
        self.socket.sendall(data)

    def next_frame(self):
        """The next frame, or None at the end of the connection."""
        while len(self._received) < HEADER.size or len(self._received) < HEADER.size + self._length():
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self._received, "the connection ended in the middle of a frame"
                return None
            self._received += data
        length, kind, request_id = HEADER.unpack_from(self._received)
        end = HEADER.size + length
        payload, self._received = self._received[HEADER.size : end], self._received[end:]
        assert kind in (BOOTED, READY, INIT_FAILED, RESULT, ERROR, LOG, PONG, CALL, READS), f"unknown kind {kind:#04x}"
        return kind, request_id, payload

    def _length(self):
        return HEADER.unpack_from(self._received)[0]

    def next_answer(self):
        """The next frame that is not a LOG; the LOG frames before it go to `self.logs`."""
        while True:
            answer = self.next_frame()
            if answer is None or answer[0] != LOG:
                return answer
            _, request_id, payload = answer
            self.logs.append((request_id, payload[0], payload[1:].decode()))

    def boot(self):
        kind, request_id, payload = self.next_answer()
        assert (kind, request_id) == (BOOTED, 0), (kind, payload)
        return json.loads(payload)

    def init(self, handler="main.handler", concurrency=1, env=None, **more):
        """Sends INIT and gives back (kind, payload) of the answer."""
        self.send_init(handler, concurrency, env, **more)
        kind, _, payload = self.next_answer()
        return kind, json.loads(payload)

    def send_init(self, handler="main.handler", concurrency=1, env=None, **more):
        settings = {
            "handler": handler,
            "code_dir": self.folder,
            "function_name": "tested",
            "function_version": "7",
            "memory_mb": 256,
            "timeout_s": 30,
            "concurrency": concurrency,
            "env": env or {},
            **more,
        }
        self.send(pack(INIT, 0, json.dumps(settings).encode()))

    def send_invoke(self, event=None, request_id=1, **named):
        self.send(pack(INVOKE, request_id, invoke_payload(event, **named)))

    def call(self, event=None, request_id=1, **named):
        """Sends INVOKE and gives back (kind, decoded payload) of its answer."""
        self.send_invoke(event, request_id, **named)
        return self.answer(request_id)

    def call_recorded(self, event=None, request_id=1, **named):
        """The same in a runtime that records: (what READS said, kind, decoded payload), in the order of the contract."""
        self.send_invoke(event, request_id, **named)
        kind, reads = self.answer(request_id)
        assert kind == READS, (hex(kind), reads)
        return (reads, *self.answer(request_id))

    def next_call(self):
        """The CALL that has to come next."""
        frame = self.next_answer()
        assert frame is not None, f"the runtime is gone: {self.stderr_at_end()}"
        kind, call_id, payload = frame
        assert kind == CALL, (hex(kind), payload)
        return read_call(call_id, payload)

    def reply(self, call, body=b""):
        self.send(pack(ANSWER, call.id, b"\x00" + body))

    def reply_json(self, call, value):
        self.reply(call, json.dumps(value).encode())

    def refuse(self, call, **fields):
        self.send(pack(ANSWER, call.id, b"\x01" + json.dumps({"type": "HelperError", "message": "no", **fields}).encode()))

    def answer(self, request_id=None):
        got = self.next_answer()
        assert got is not None, f"the runtime is gone: {self.stderr_at_end()}"
        kind, got_id, payload = got
        assert request_id is None or got_id == request_id, (got_id, payload)
        return kind, json.loads(payload)

    def wait(self):
        """The exit status, within bounded time."""
        return self.process.wait(WAIT_S)

    def stdout_at_end(self):
        self.wait()
        return self.process.stdout.read().decode()

    def stderr_at_end(self):
        self.wait()
        return self.process.stderr.read().decode()

    def read_pipe(self, pipe):
        """Some text from a pipe that stays open."""
        ready, _, _ = select.select([pipe], [], [], WAIT_S)
        assert ready, "nothing was written to the pipe"
        return os.read(pipe.fileno(), 65536).decode()


def started(code, **init):
    """A runtime that is ready to serve `code` as main.py."""
    runtime = Runtime({"main.py": code})
    try:
        runtime.boot()
        kind, payload = runtime.init(**init)
        assert kind == READY, payload
    except BaseException:
        runtime.close()
        raise
    return runtime


def helper_started(code, facts=None, **init):
    """A runtime that is ready to serve the helper `Geo` of `code`, and what READY said."""
    runtime = Runtime({"main.py": code})
    try:
        runtime.boot()
        kind, ready = runtime.init(handler="main:Geo", helper={**HELPER_FACTS, **(facts or {})}, **init)
        assert kind == READY, ready
    except BaseException:
        runtime.close()
        raise
    return runtime, ready
