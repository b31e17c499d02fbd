"""Frames on the wire: however they are cut, whatever is wrong with them, and how the process ends."""

import random
import struct
import time
import unittest

from runtime_process import (
    CANCEL,
    ERROR,
    INIT,
    INVOKE,
    PING,
    PONG,
    RESULT,
    STOP,
    Runtime,
    invoke_payload,
    pack,
    started,
)

ECHO = "def handler(event, context):\n    return event\n"
ASYNC_ECHO = "async def handler(event, context):\n    return event\n"
WAYS = ((ECHO, 1), (ECHO, 4), (ASYNC_ECHO, 1), (ASYNC_ECHO, 4))


class Cutting(unittest.TestCase):
    def test_dribbled_byte_by_byte(self):
        for code, concurrency in WAYS:
            with self.subTest(concurrency=concurrency), started(code, concurrency=concurrency) as runtime:
                for byte in pack(INVOKE, 2**64 - 1, invoke_payload([1, "ü"])) + pack(PING, 3):
                    runtime.send(bytes((byte,)))
                answers = sorted(runtime.next_answer() for _ in range(2))
                self.assertEqual(answers, [(RESULT, 2**64 - 1, '[1,"ü"]'.encode()), (PONG, 3, b"")])

    def test_many_in_one_write(self):
        for code, concurrency in WAYS:
            with self.subTest(concurrency=concurrency), started(code, concurrency=concurrency) as runtime:
                runtime.send(b"".join(pack(INVOKE, n, invoke_payload(n)) for n in range(1, 200)) + pack(STOP))
                answers = {runtime.next_answer()[1:] for _ in range(1, 200)}
                self.assertEqual(answers, {(n, str(n).encode()) for n in range(1, 200)})
                self.assertIsNone(runtime.next_answer())
                self.assertEqual(runtime.wait(), 0)

    def test_init_and_invoke_in_one_write(self):
        for code, _ in WAYS[1:3]:
            with Runtime({"main.py": code}) as runtime:
                runtime.boot()
                runtime.socket.settimeout(20)
                invoke = pack(INVOKE, 1, invoke_payload("early"))
                original = runtime.send
                runtime.send = lambda data: original(data + invoke)
                runtime.init()
                self.assertEqual(runtime.answer(1), (RESULT, "early"))

    def test_large_frames_cut_at_random(self):
        chance = random.Random(7)
        with started(ECHO) as runtime:
            events = ["x" * chance.randrange(1, 300_000) for _ in range(10)]
            data = b"".join(pack(INVOKE, n, invoke_payload(event)) for n, event in enumerate(events))
            import threading

            def send():
                start = 0
                while start < len(data):
                    end = start + chance.randrange(1, 100_000)
                    runtime.send(data[start:end])
                    start = end

            sender = threading.Thread(target=send)
            sender.start()
            for n, event in enumerate(events):
                self.assertEqual(runtime.answer(n), (RESULT, event))
            sender.join()


class Endings(unittest.TestCase):
    def test_stop_when_idle_runs_exit_handlers(self):
        for code, concurrency in WAYS:
            code = "import atexit, os\natexit.register(os.write, 1, b'bye')\n" + code
            with started(code, concurrency=concurrency) as runtime:
                runtime.send(pack(STOP))
                self.assertIsNone(runtime.next_answer())
                self.assertEqual(runtime.wait(), 0)
                self.assertEqual(runtime.stdout_at_end(), "bye")

    def test_stop_waits_for_what_is_in_flight(self):
        threaded = """
            import threading
            both = threading.Barrier(2)
            def handler(event, context):
                both.wait(10)
                return event
        """
        tasks = """
            import asyncio
            async def handler(event, context):
                await asyncio.sleep(0.05)
                return event
        """
        for code in (threaded, tasks):
            with started(code, concurrency=2) as runtime:
                runtime.send(pack(INVOKE, 1, invoke_payload(1)) + pack(INVOKE, 2, invoke_payload(2)) + pack(STOP))
                self.assertEqual({runtime.next_answer()[1] for _ in range(2)}, {1, 2})
                self.assertIsNone(runtime.next_answer())
                self.assertEqual(runtime.wait(), 0)

    def test_stop_before_init(self):
        with Runtime() as runtime:
            runtime.boot()
            runtime.send(pack(PING, 4) + pack(STOP))
            self.assertEqual(runtime.next_answer(), (PONG, 4, b""))
            self.assertEqual(runtime.wait(), 0)

    def test_end_of_the_connection(self):
        with Runtime() as runtime:
            runtime.boot()
            runtime.socket.close()
            self.assertEqual(runtime.wait(), 0)
        for code, concurrency in WAYS:
            code += "\nimport threading\nthreading.Thread(target=threading.Event().wait).start()\n"
            with started(code, concurrency=concurrency) as runtime:
                runtime.socket.close()
                self.assertEqual(runtime.wait(), 0)

    def test_cancel_a_task(self):
        code = """
            import asyncio
            contexts = {}
            async def handler(event, context):
                if event == "look":
                    return contexts["wait"].cancelled
                contexts[event] = context
                try:
                    await asyncio.Event().wait()
                finally:
                    print("cleaned up")
        """
        with started(code, concurrency=4) as runtime:
            # In one write: the task has not run its first step when it is cancelled.
            runtime.send(pack(INVOKE, 1, invoke_payload("wait")) + pack(CANCEL, 1))
            kind, error = runtime.answer(1)
            self.assertEqual((kind, error["type"]), (ERROR, "CancelledError"))
            self.assertEqual(runtime.logs, [(1, 1, "cleaned up")])
            self.assertEqual(runtime.call("look", request_id=2), (RESULT, True))
            runtime.send(pack(CANCEL, 77))
            self.assertEqual(runtime.call("look", request_id=3), (RESULT, True))

    def test_cancel_a_thread(self):
        code = """
            def handler(event, context):
                while not context.cancelled:
                    pass
                return "saw it"
        """
        with started(code, concurrency=2) as runtime:
            runtime.send(pack(INVOKE, 1, invoke_payload(None)) + pack(CANCEL, 1))
            self.assertEqual(runtime.answer(1), (RESULT, "saw it"))

    def test_a_slow_call_keeps_nobody_waiting(self):
        code = """
            import time
            def handler(event, context):
                time.sleep(event)
                return event
        """
        with started(code, concurrency=4) as runtime:
            # In one write: all of them are read before the first, which keeps its reader, is over.
            calls = [pack(INVOKE, 1, invoke_payload(2))] + [pack(INVOKE, n, invoke_payload(0)) for n in (2, 3, 4)]
            runtime.send(b"".join(calls) + pack(PING, 9))
            answers = [runtime.next_answer()[:2] for _ in range(4)]
            self.assertEqual(sorted(answers), [(RESULT, 2), (RESULT, 3), (RESULT, 4), (PONG, 9)])
            # The other way round: three slow calls at once take as long as one.
            for request_id in (5, 6, 7):
                runtime.send(pack(INVOKE, request_id, invoke_payload(2)))
            began = time.monotonic()
            self.assertEqual({runtime.answer()[0] for _ in range(4)}, {RESULT})
            self.assertLess(time.monotonic() - began, 4)

    def test_quick_calls_come_to_stay_on_one_thread(self):
        code = """
            import threading, time
            def handler(event, context):
                time.sleep(event)
                return threading.current_thread().name
        """
        with started(code, concurrency=4) as runtime:
            runtime.call(0.1)
            names = [runtime.call(0, request_id=n)[1] for n in range(2, 500)]
            self.assertNotIn("MainThread", names)
            # After a while only: first, calls are still handed to threads of their own. A machine that is busy with other
            # things may make one of these calls look slow, and the thread change again.
            self.assertLess(len(set(names[-100:])), 4)
            runtime.send(pack(STOP, 0))
            self.assertEqual(runtime.wait(), 0)

    def test_forked_children_never_answer(self):
        code = """
            import os, sys
            def handler(event, context):
                pid = os.fork()
                if pid == 0:
                    print("child prints")
                    if event == "raise":
                        raise ValueError("in the child")
                    if event == "exit":
                        sys.exit(5)
                    return "child"
                _, status = os.waitpid(pid, 0)
                return os.waitstatus_to_exitcode(status)
        """
        for text in (code, code.replace("def handler", "async def handler")):
            for concurrency in (1, 4):
                with started(text, concurrency=concurrency) as runtime:
                    self.assertEqual(runtime.call("return", 1), (RESULT, 0))
                    self.assertEqual(runtime.call("raise", 2), (RESULT, 1))
                    self.assertEqual(runtime.call("exit", 3), (RESULT, 5))
                    self.assertEqual(runtime.logs, [])
                    runtime.socket.close()
                    runtime.wait()
                    self.assertEqual(runtime.process.stdout.read(), b"child prints\n" * 3)
                    self.assertIn(b"ValueError: in the child", runtime.process.stderr.read())

    def test_multiprocessing_works(self):
        code = """
            import multiprocessing
            def square(n):
                return n * n
            def handler(event, context):
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    return pool.map(square, range(10))
        """
        with started(code) as runtime:
            self.assertEqual(runtime.call(), (RESULT, [n * n for n in range(10)]))
            self.assertEqual(runtime.call(), (RESULT, [n * n for n in range(10)]))


class Hostile(unittest.TestCase):
    def ends(self, runtime, data):
        """Sends and closes the sending side; whatever was sent, the process has to end."""
        try:
            runtime.send(data)
            runtime.socket.shutdown(1)
        except OSError:
            pass
        while runtime.next_answer() is not None:
            pass
        return runtime.wait()

    def test_broken_frames_end_the_instance(self):
        for data in (pack(0x42), pack(0x81), pack(INIT, 0, b"{}"), struct.pack("<IBQ", (8 << 20) + 1, INVOKE, 1)):
            for code, concurrency in WAYS:
                with self.subTest(data), started(code, concurrency=concurrency) as runtime:
                    self.assertEqual(self.ends(runtime, data), 1)

    def test_broken_frames_before_init(self):
        for data in (pack(0x42), pack(INVOKE, 1, invoke_payload(1)), pack(INIT, 0, b"not json"), pack(INIT, 0, b"[]")):
            with self.subTest(data), Runtime() as runtime:
                runtime.boot()
                self.assertEqual(self.ends(runtime, data), 1)

    def test_short_invocations_are_answered(self):
        with started(ECHO) as runtime:
            for size in range(0, 26):
                runtime.send(pack(INVOKE, size, invoke_payload(1)[:size]))
                kind, error = runtime.answer(size)
                self.assertEqual((kind, error["type"]), (ERROR, "InvalidEvent"))
            runtime.send(pack(INVOKE, 1, struct.pack("<16sQH", b"", 0, 65535) + b"1"))
            self.assertEqual(runtime.answer(1)[1]["type"], "InvalidEvent")

    def test_random_bytes(self):
        chance = random.Random(2024)
        for turn in range(40):
            code, concurrency = WAYS[turn % len(WAYS)]
            runtime = started(code, concurrency=concurrency) if turn % 2 else Runtime()
            with runtime:
                if not turn % 2:
                    runtime.boot()
                data = bytearray()
                for _ in range(chance.randrange(1, 6)):
                    shape = chance.randrange(3)
                    body = chance.randbytes(chance.randrange(60)) if shape < 2 else invoke_payload([chance.random()])
                    kind = chance.choice((INIT, INVOKE, CANCEL, PING, chance.randrange(256)))
                    data += body if shape == 0 else pack(kind, chance.randrange(2**64), body)
                self.assertIn(self.ends(runtime, bytes(data)), (0, 1), bytes(data))


if __name__ == "__main__":
    unittest.main()
