"""Lines that a function prints: each reaches the right request, whole, and never disturbs the frames."""

import unittest

from runtime_process import INVOKE, LOG, RESULT, invoke_payload, pack, started


class Logs(unittest.TestCase):
    def lines(self, code, event=None, **init):
        with started(code, **init) as runtime:
            self.assertEqual(runtime.call(event, request_id=5)[0], RESULT)
            return runtime.logs

    def test_all_the_ways_to_print(self):
        code = """
            import logging, sys
            logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
            def handler(event, context):
                print("one", 2)
                sys.stdout.write("a\\nb\\n\\nc")
                sys.stdout.buffer.write(b"\\xc3")
                sys.stdout.buffer.write(b"\\xbc\\xff\\n")
                logging.info("logged")
                print("bad \\ud800", file=sys.stderr)
                print("rest", end="", flush=True)
        """
        self.assertEqual(
            self.lines(code),
            [
                (5, 1, "one 2"),
                (5, 1, "a"),
                (5, 1, "b"),
                (5, 1, ""),
                (5, 1, "cü\\xff"),
                (5, 2, "INFO logged"),
                (5, 2, "bad \\ud800"),
                (5, 1, "rest"),
            ],
        )

    def test_long_lines_are_cut(self):
        logs = self.lines("def handler(event, context):\n    print('ü' * 100_000)\n    print('x' * 65_535)\n    print('end')\n")
        self.assertLessEqual(len(logs[0][2].encode()), 65_535)
        self.assertTrue(logs[0][2].endswith("ü … [line cut at 64 KiB]"))
        self.assertEqual([logs[1][2], logs[2][2]], ["x" * 65_535, "end"])
        logs = self.lines("def handler(event, context):\n    for _ in range(3000): print('x' * 100, end='')\n")
        self.assertEqual(len(logs), 1)
        self.assertTrue(logs[0][2].endswith("[line cut at 64 KiB]"))

    def test_streams_behave_like_files(self):
        code = """
            import io, sys
            def handler(event, context):
                with_close = sys.stdout
                with_close.close(); sys.stderr.flush(); sys.stdout.reconfigure(encoding="utf-8")
                try:
                    sys.stdout.write(b"x")
                    raised = False
                except TypeError:
                    raised = True
                sys.stdout.writelines(["x\\n", "y\\n"])
                return [sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.writable(),
                        sys.stdout.readable(), sys.stdout.closed, isinstance(sys.stdout, io.TextIOBase), raised, print("z")]
        """
        with started(code) as runtime:
            self.assertEqual(runtime.call()[1], [1, 2, False, "utf-8", True, False, False, True, True, None])
            self.assertEqual([text for _, _, text in runtime.logs], ["x", "y", "z"])

    def test_threads_print_for_the_request_that_started_them(self):
        code = """
            import threading
            from concurrent.futures import ThreadPoolExecutor
            pool = ThreadPoolExecutor(1)
            def handler(event, context):
                thread = threading.Thread(target=print, args=(f"thread {event}",))
                thread.start(); thread.join()
                pool.submit(print, f"pool {event}").result()
        """
        with started(code) as runtime:
            runtime.call("a", request_id=1)
            runtime.call("b", request_id=2)
            self.assertEqual(runtime.logs, [(1, 1, "thread a"), (1, 1, "pool a"), (2, 1, "thread b"), (2, 1, "pool b")])

    def test_a_thread_left_behind_prints_for_the_instance(self):
        code = """
            import threading
            go = threading.Event()
            def late():
                go.wait()
                print("late")
            def handler(event, context):
                if event == "start":
                    threading.Thread(target=late, daemon=True).start()
                else:
                    go.set()
        """
        with started(code) as runtime:
            runtime.call("start", request_id=1)
            runtime.call("go", request_id=2)
            while not runtime.logs:
                kind, request_id, payload = runtime.next_frame()
                self.assertEqual(kind, LOG)
                runtime.logs.append((request_id, payload[0], payload[1:].decode()))
            self.assertEqual(runtime.logs, [(0, 1, "late")])

    def concurrent(self, code):
        count = 8
        with started(code, concurrency=count) as runtime:
            ids = range(10, 10 + count)
            runtime.send(b"".join(pack(INVOKE, n, invoke_payload(n)) for n in ids))
            answers = {runtime.next_answer()[1] for _ in ids}
            self.assertEqual(answers, set(ids))
            self.assertEqual(len(runtime.logs), 40 * count)
            for request_id, _, text in runtime.logs:
                self.assertEqual(text.split()[0], str(request_id))
            for n in ids:
                self.assertEqual([int(t.split()[1]) for i, _, t in runtime.logs if i == n], list(range(40)))

    def test_concurrent_threads(self):
        self.concurrent("""
            import threading
            together = threading.Barrier(8)
            def handler(event, context):
                together.wait(10)
                for i in range(40):
                    print(event, i)
        """)

    def test_concurrent_tasks(self):
        self.concurrent("""
            import asyncio
            async def child(event, i):
                print(event, end=" ")
                print(i)
            async def handler(event, context):
                for i in range(40):
                    await asyncio.sleep(0)
                    await asyncio.create_task(child(event, i))
        """)

    def test_raw_writes_stay_on_the_pipes(self):
        code = """
            import os, subprocess
            def handler(event, context):
                os.write(1, b"\\x84\\x00 raw garbage \\xff\\n")
                subprocess.run(["echo", "from a child"])
                return "clean"
        """
        with started(code) as runtime:
            self.assertEqual(runtime.call(), (RESULT, "clean"))
            self.assertEqual(runtime.logs, [])
            runtime.socket.close()
            runtime.wait()
            self.assertEqual(runtime.process.stdout.read(), b"\x84\x00 raw garbage \xff\nfrom a child\n")

    def test_printing_from_signal_handlers_and_finalisers(self):
        code = """
            import gc, signal
            class Noisy:
                def __init__(self):
                    self.me = self
                def __del__(self):
                    print("finaliser")
            signal.signal(signal.SIGALRM, lambda *_: print("signal"))
            def handler(event, context):
                signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
                for i in range(3000):
                    Noisy()
                    print("x" * 2000)
                signal.setitimer(signal.ITIMER_REAL, 0)
                return "done"
        """
        with started(code) as runtime:
            self.assertEqual(runtime.call(), (RESULT, "done"))
            self.assertEqual(sum(text.count("x") for _, _, text in runtime.logs), 3000 * 2000)


if __name__ == "__main__":
    unittest.main()
