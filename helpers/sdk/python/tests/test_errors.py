"""Failures of a handler: what the caller sees, and that the instance survives what it can survive."""

import unittest

from runtime_process import ERROR, RESULT, started

HANDLER = """
    import os, sys
    class Custom(Exception):
        def __str__(self):
            raise RuntimeError("no text")
    class Odd(BaseException):
        pass
    def inner(kind):
        if kind == "value":
            raise ValueError("no good: ü \\ud800")
        if kind == "chain":
            try:
                {}["missing"]
            except KeyError as error:
                raise LookupError("outer") from error
        if kind == "key":
            {}["missing"]
        if kind == "exit":
            sys.exit(3)
        if kind == "builtin-exit":
            exit()
        if kind == "interrupt":
            raise KeyboardInterrupt
        if kind == "odd":
            raise Odd("base")
        if kind == "unprintable":
            raise Custom
        if kind == "recursion":
            inner(kind)
        if kind == "mutual":
            even(kind)
        if kind == "long":
            raise ValueError("x" * 1_000_000)
        if kind == "memory":
            bytearray(1 << 60)
        if kind == "assert":
            assert kind is None, "asserted"
        return "fine"
    def even(kind):
        return odd(kind)
    def odd(kind):
        return even(kind)
    def handler(event, context):
        return inner(event)
"""


class Errors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.runtime = started(HANDLER)

    @classmethod
    def tearDownClass(cls):
        cls.runtime.close()

    def fails(self, event):
        kind, error = self.runtime.call(event)
        self.assertEqual(kind, ERROR)
        self.assertEqual({key: type(value) for key, value in error.items()}, {"type": str, "message": str, "stack": str})
        self.assertEqual(self.runtime.call("fine"), (RESULT, "fine"), "the instance goes on")
        return error

    def test_only_the_functions_own_frames(self):
        error = self.fails("value")
        self.assertEqual(error["type"], "ValueError")
        self.assertEqual(error["message"], "no good: ü \\ud800")
        self.assertIn('  File "main.py", line', error["stack"])
        self.assertIn('raise ValueError("no good', error["stack"])
        self.assertEqual(error["stack"].count("File "), 2, error["stack"])
        self.assertNotIn("raas", error["stack"])

    def test_chained(self):
        error = self.fails("chain")
        self.assertEqual((error["type"], error["message"]), ("LookupError", "outer"))
        self.assertIn("KeyError: 'missing'", error["stack"])
        self.assertIn("direct cause", error["stack"])

    def test_types(self):
        for event, name, message in (
            ("key", "KeyError", "key 'missing' is missing"),
            ("exit", "SystemExit", "the function called sys.exit(3)"),
            ("builtin-exit", "SystemExit", "the function called sys.exit(None)"),
            ("interrupt", "KeyboardInterrupt", ""),
            ("odd", "Odd", "base"),
            ("assert", "AssertionError", "asserted"),
            ("memory", "MemoryError", ""),
        ):
            with self.subTest(event):
                error = self.fails(event)
                self.assertEqual((error["type"], error["message"]), (name, message))

    def test_hostile_exception(self):
        error = self.fails("unprintable")
        self.assertEqual((error["type"], error["message"]), ("Custom", "<Custom that cannot be shown: RuntimeError>"))

    def test_deep_stacks_are_bounded(self):
        for event in ("recursion", "mutual"):
            error = self.fails(event)
            self.assertEqual(error["type"], "RecursionError")
            self.assertLessEqual(len(error["stack"].encode()), 32 << 10)
            self.assertIn("main.py", error["stack"])
            self.assertIn("RecursionError", error["stack"][-300:])

    def test_long_messages_are_bounded(self):
        error = self.fails("long")
        self.assertLessEqual(len(error["message"].encode()), 8 << 10)
        self.assertIn("bytes left out", error["message"])
        self.assertLessEqual(len(error["stack"].encode()), 32 << 10)


class Endings(unittest.TestCase):
    def test_os_exit_ends_the_process(self):
        with started("import os\ndef handler(event, context):\n    os._exit(9)\n") as runtime:
            runtime.send(runtime_invoke())
            self.assertIsNone(runtime.next_answer())
            self.assertEqual(runtime.wait(), 9)

    def test_a_crash_leaves_its_stack_on_the_error_pipe(self):
        code = "import os, signal\ndef handler(event, context):\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
        with started(code) as runtime:
            runtime.send(runtime_invoke())
            self.assertIsNone(runtime.next_answer())
            self.assertEqual(runtime.wait(), -11)
            self.assertIn("in handler", runtime.stderr_at_end())

    def test_async_and_threaded_failures_look_the_same(self):
        for code in (
            "async def handler(event, context):\n    import sys\n    sys.exit(2) if event else 1 / 0\n",
            "def handler(event, context):\n    import sys\n    sys.exit(2) if event else 1 / 0\n",
        ):
            with started(code, concurrency=4) as runtime:
                self.assertEqual(runtime.call(True)[1]["type"], "SystemExit")
                kind, error = runtime.call(False)
                self.assertEqual((kind, error["type"]), (ERROR, "ZeroDivisionError"))
                self.assertEqual(error["stack"].count("File "), 1, error["stack"])

    def test_an_alarm_left_behind_does_not_end_the_instance(self):
        code = """
            import signal
            def fire(number, frame):
                raise TimeoutError("late alarm")
            def handler(event, context):
                signal.signal(signal.SIGALRM, fire)
                if event:
                    signal.setitimer(signal.ITIMER_REAL, 0.001)
                return event
        """
        with started(code) as runtime:
            self.assertEqual(runtime.call(1), (RESULT, 1))
            while not any("late alarm" in text for _, _, text in runtime.logs):
                kind, _, payload = runtime.next_frame()
                runtime.logs.append((0, payload[0], payload[1:].decode()))
            self.assertEqual(runtime.call(0), (RESULT, 0))


def runtime_invoke(event=None):
    from runtime_process import INVOKE, invoke_payload, pack

    return pack(INVOKE, 1, invoke_payload(event))


if __name__ == "__main__":
    unittest.main()
