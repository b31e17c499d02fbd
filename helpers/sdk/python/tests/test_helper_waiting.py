"""What happens while code waits for a helper: other threads, other requests, and every kind of end."""

import json
import unittest

from runtime_process import (
    CALL,
    CANCEL,
    ERROR,
    HELPER_FACTS,
    INVOKE,
    PING,
    PONG,
    READY,
    RESULT,
    STOP,
    Runtime,
    invoke_payload,
    pack,
    read_call,
    started,
)

#: The ways of serving a plain handler: alone on the main thread, and on threads.
PLAIN = (1, 4)
BOUND = {"helpers": ["geo", "maps"]}


def arguments(call):
    return json.loads(call.body)


class Threads(unittest.TestCase):
    def test_the_functions_own_threads(self):
        code = """
            import threading
            def handler(event, context):
                found = {}
                def ask(n):
                    found[n] = context.helper("geo").at(n=n)
                threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
                for thread in threads:
                    thread.start()
                own = context.helper("geo").at(n=100)
                for thread in threads:
                    thread.join()
                return [own, *(found[n] for n in range(8))]
        """
        for concurrency in PLAIN:
            with started(code, concurrency=concurrency, **BOUND) as runtime:
                for turn in range(1, 4):
                    runtime.send_invoke(None, turn)
                    calls = [runtime.next_call() for _ in range(9)]
                    self.assertEqual({call.parent for call in calls}, {turn})
                    for call in reversed(calls):
                        runtime.reply_json(call, arguments(call)["n"] * 10)
                    self.assertEqual(runtime.answer(turn), (RESULT, [1000, *range(0, 80, 10)]))

    BACKGROUND = """
        import queue, threading
        asked, got = queue.Queue(), queue.Queue()
        def work(helper):
            while True:
                n = asked.get()
                # One after another, so that the last is asked for when its request is long over.
                got.put([helper.at(n=n) for _ in range(3)])
        workers = []
        def handler(event, context):
            if not workers:
                workers.append(threading.Thread(target=work, args=(context.helper("geo"),), daemon=True))
                workers[0].start()
                return "started"
            if event == "get":
                return got.get(timeout=20)
            asked.put(event)
    """

    def test_a_thread_that_outlives_its_request(self):
        for concurrency in PLAIN:
            with started(self.BACKGROUND, concurrency=concurrency, **BOUND) as runtime:
                self.assertEqual(runtime.call(None, 1), (RESULT, "started"))
                for turn in range(2, 20, 2):
                    runtime.send_invoke(turn, turn)
                    frames = sorted((runtime.next_answer(), runtime.next_answer()), reverse=True)
                    self.assertEqual(frames[1], (RESULT, turn, b"null"))
                    call = read_call(*frames[0][1:])
                    for last in (False, False, True):
                        self.assertEqual((call.parent, arguments(call)), (0, {"n": turn}))
                        # Nothing comes after the answer: the idle runtime has to hand it on at once.
                        runtime.reply_json(call, turn * 10)
                        call = None if last else runtime.next_call()
                    self.assertEqual(runtime.call("get", turn + 1), (RESULT, [turn * 10] * 3))

    def test_a_call_left_behind_ends_with_its_request(self):
        code = """
            import queue, threading
            from raas import HelperError
            ended = queue.Queue()
            begun = threading.Event()
            def leave(geo):
                try:
                    geo.at(n=1)
                except HelperError as error:
                    ended.put(error.code)
            def handler(event, context):
                if event == "look":
                    return ended.get(timeout=20)
                threading.Thread(target=leave, args=(context.helper("geo"),), daemon=True).start()
                context.helper("geo").other()
        """
        for concurrency in PLAIN:
            with started(code, concurrency=concurrency, **BOUND) as runtime:
                runtime.send_invoke("leave", 1)
                calls = {call.target: call for call in (runtime.next_call(), runtime.next_call())}
                runtime.reply_json(calls["geo/other"], None)
                self.assertEqual(runtime.answer(1), (RESULT, None))
                # Never answered.
                self.assertEqual(runtime.call("look", 2), (RESULT, "cancelled"))

    def test_a_thread_of_the_import_calls_while_serving_begins(self):
        code = """
            import threading
            from raas import Helper, method
            class Geo(Helper):
                def start(self):
                    self.found = None
                    thread = threading.Thread(target=self.work, daemon=True)
                    thread.start()
                    self.helper("maps").own()
                def work(self):
                    self.found = [self.helper("maps").at(n=n) for n in range(3)]
                    print("worked")
                @method
                def look(self):
                    return self.found
        """
        code_async = code + "\n                @method\n                async def unused(self): pass\n"
        for text, concurrency in ((code, 1), (code, 4), (code_async, 1)):
            with Runtime({"main.py": text}) as runtime:
                runtime.boot()
                runtime.send_init(handler="main:Geo", helper=HELPER_FACTS, concurrency=concurrency, **BOUND)
                calls = {call.target: call for call in (runtime.next_call(), runtime.next_call())}
                runtime.reply_json(calls["maps/own"], None)
                self.assertEqual(runtime.next_answer()[0], READY)
                self.assertEqual(runtime.call({"method": "look", "args": {}}, 1), (RESULT, None))
                call = calls["maps/at"]
                for n in range(3):
                    runtime.reply_json(call, n)
                    call = runtime.next_call() if n < 2 else None
                self.assertEqual(runtime.next_frame()[2], b"\x01worked")
                self.assertEqual(runtime.call({"method": "look", "args": {}}, 2), (RESULT, [0, 1, 2]))


class Meanwhile(unittest.TestCase):
    ASK = """
        def handler(event, context):
            return [event, context.helper("geo").at(n=event)] if event else "quick"
    """

    def test_work_that_comes_while_a_call_waits(self):
        with started(self.ASK, concurrency=1, **BOUND) as runtime:
            runtime.send_invoke(1, 1)
            call = runtime.next_call()
            # One at a time: the second begins when the first is over.
            runtime.send(pack(INVOKE, 2, invoke_payload(None)) + pack(PING, 8))
            runtime.reply_json(call, "one")
            self.assertEqual(runtime.answer(1), (RESULT, [1, "one"]))
            self.assertEqual(runtime.answer(2), (RESULT, "quick"))
            self.assertEqual(runtime.next_answer(), (PONG, 8, b""))
            self.assertEqual(runtime.call(None, 3), (RESULT, "quick"))

    def test_work_goes_on_beside_a_call_that_waits(self):
        with started(self.ASK, concurrency=4, **BOUND) as runtime:
            for turn in range(0, 50, 10):
                calls = []
                for n in (1, 2, 3):
                    runtime.send_invoke(n, turn + n)
                    calls.append(runtime.next_call())
                runtime.send(pack(PING, 8))
                self.assertEqual(runtime.next_answer()[:2], (PONG, 8))
                self.assertEqual(runtime.call(None, turn + 4), (RESULT, "quick"))
                for call in calls[::-1]:
                    self.assertEqual(call.parent, turn + arguments(call)["n"])
                    runtime.reply_json(call, call.parent)
                    n = arguments(call)["n"]
                    self.assertEqual(runtime.answer(turn + n), (RESULT, [n, turn + n]))

    def test_many_calls_and_answers_in_any_order(self):
        in_tasks = self.ASK.replace("def", "async def").replace("[event, ", "[event, await ").replace(".at", ".aio.at")
        for code in (self.ASK, in_tasks):
            with started(code, concurrency=16, **BOUND) as runtime:
                runtime.send(b"".join(pack(INVOKE, n, invoke_payload(n)) for n in range(1, 17)))
                results, waiting, sent = {}, [], 16
                while len(results) < 400:
                    kind, frame_id, payload = runtime.next_answer()
                    if kind == CALL:
                        waiting.append(read_call(frame_id, payload))
                    else:
                        results[frame_id] = (kind, json.loads(payload))
                        if sent < 400:
                            sent += 1
                            runtime.send_invoke(sent, sent)
                    # Some at a time and the latest first; all that are left when nothing else can come.
                    while len(waiting) > 8 or waiting and len(waiting) == sent - len(results):
                        call = waiting.pop()
                        runtime.reply_json(call, call.parent)
                self.assertEqual(results, {n: (RESULT, [n, n]) for n in range(1, 401)})

    def test_stop_waits_for_calls(self):
        for code in (self.ASK, self.ASK.replace("def", "async def")):
            for concurrency in PLAIN:
                with started(code, concurrency=concurrency, **BOUND) as runtime:
                    runtime.send_invoke(1, 1)
                    call = runtime.next_call()
                    runtime.send(pack(STOP))
                    runtime.reply_json(call, "one")
                    self.assertEqual(runtime.answer(1), (RESULT, [1, "one"]))
                    self.assertIsNone(runtime.next_answer())
                    self.assertEqual(runtime.wait(), 0)

    def test_a_cancelled_request_waits_no_longer(self):
        for code, concurrency in ((self.ASK, 1), (self.ASK, 4), (self.ASK.replace("def", "async def"), 1)):
            with started(code, concurrency=concurrency, **BOUND) as runtime:
                runtime.send_invoke(1, 1)
                call = runtime.next_call()
                runtime.send(pack(CANCEL, 1))
                kind, error = runtime.answer(1)
                self.assertEqual((kind, error["type"]), (ERROR, "HelperError"))
                self.assertIn("cancelled", error["message"])
                runtime.reply_json(call, "late")
                self.assertEqual(runtime.call(None, 2), (RESULT, "quick"))

    def test_the_end_of_the_connection_ends_a_call_that_waits(self):
        for code in (self.ASK, self.ASK.replace("def", "async def")):
            for concurrency in PLAIN:
                with started(code, concurrency=concurrency, **BOUND) as runtime:
                    runtime.send_invoke(1, 1)
                    runtime.next_call()
                    runtime.socket.close()
                    self.assertEqual(runtime.wait(), 0)

    def test_broken_frames_while_a_call_waits_end_the_instance(self):
        for concurrency in PLAIN:
            with started(self.ASK, concurrency=concurrency, **BOUND) as runtime:
                runtime.send_invoke(1, 1)
                call = runtime.next_call()
                runtime.send(pack(0x42))
                try:
                    runtime.reply_json(call, 1)
                except OSError:
                    pass  # it has ended already
                while runtime.next_answer() is not None:
                    pass
                self.assertEqual(runtime.wait(), 1)

    def test_an_alarm_ends_the_waiting(self):
        code = """
            import signal
            def fire(number, frame):
                raise TimeoutError("too slow")
            def handler(event, context):
                signal.signal(signal.SIGALRM, fire)
                signal.setitimer(signal.ITIMER_REAL, 0.05 if event == "slow" else 0)
                try:
                    return context.helper("geo").at(n=1)
                except TimeoutError as error:
                    return str(error)
        """
        with started(code, **BOUND) as runtime:
            runtime.send_invoke("slow", 1)
            call = runtime.next_call()
            self.assertEqual(runtime.answer(1), (RESULT, "too slow"))
            runtime.reply_json(call, "late")
            runtime.send_invoke("again", 2)
            runtime.reply_json(runtime.next_call(), "in time")
            self.assertEqual(runtime.answer(2), (RESULT, "in time"))

    def test_a_forked_child_is_told_that_it_cannot_call(self):
        code = """
            import multiprocessing
            def child(helper, queue):
                try:
                    helper.at(n=1)
                except RuntimeError as error:
                    queue.put(str(error))
            def handler(event, context):
                fork = multiprocessing.get_context("fork")
                queue = fork.Queue()
                process = fork.Process(target=child, args=(context.helper("geo"), queue))
                process.start()
                return queue.get(timeout=20)
        """
        with started(code, **BOUND) as runtime:
            kind, message = runtime.call()
            self.assertEqual(kind, RESULT)
            self.assertIn("a forked child has no connection", message)


if __name__ == "__main__":
    unittest.main()
