"""A helper's state: what a call reads and when its writes are committed, on the platform and in an author's unit test."""

import os
import sys
import unittest
import unittest.mock

from runtime_process import ERROR, RESULT, STATE_COMMIT, STATE_GET, STATE_LIST, helper_started, read_commit

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from raas import Helper, HelperError, WrongArguments, method  # noqa: E402

STATE = """
    import asyncio, threading
    from concurrent.futures import ThreadPoolExecutor
    from raas import Helper, StateError, method
    class Geo(Helper):
        @method
        def write(self, then=None):
            self.state.put("a/1", {"x": "ü"}, ttl_s=1.5)
            self.state.put("a/2", b"\\x00raw")
            self.state.put("a/3", None)
            self.state.delete("a/0")
            self.state.put("b", 1)
            self.state.delete("b")
            get = self.state.get
            seen = [get("a/1"), get("a/2").hex(), get("a/3", "none"), get("b", "gone")]
            if then == "raise":
                raise ValueError("after the writes")
            return {1} if then == "set" else seen
        @method
        def read(self, key):
            value = self.state.get(key, "default")
            return value.hex() if isinstance(value, bytes) else value
        @method
        def list(self):
            self.state.put("k/new", 1)
            self.state.delete("k/2")
            return self.state.list("k/", limit=3)
        @method
        def caught(self):
            try:
                self.state.get("x")
            except StateError as error:
                return [error.code, error.origin, error.retryable, error.message]
        @method
        def large(self):
            for n in range(9):
                self.state.put(f"k{n}", "x" * 1_000_000)
        @method
        def invalid(self, what):
            if what == "key":
                self.state.put("", 1)
            if what == "long":
                self.state.get("k" * 513)
            if what == "value":
                self.state.put("k", b"x" * ((1 << 20) + 1))
            if what == "nan":
                self.state.put("k", float("nan"))
            if what == "ttl":
                self.state.put("k", 1, ttl_s=0)
            if what == "limit":
                self.state.list(limit=1001)
        @method
        def pool(self):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda n: self.state.put(f"n{n}", n), range(3)))
                thread = threading.Thread(target=self.state.put, args=("n3", 3))
                thread.start()
                thread.join()
                return list(pool.map(self.state.get, ["n0", "n3"]))
        go = threading.Event()
        @method
        def leave_behind(self):
            self.state.put("in", 1)
            threading.Thread(target=lambda: (self.go.wait(), self.state.put("after", 2)), daemon=True).start()
        @method
        def let_go(self):
            self.go.set()
"""
ASYNC_STATE = STATE + """
        @method
        async def unused(self):
            pass
"""


class State(unittest.TestCase):
    #: The three ways of serving.
    WAYS = ((STATE, 1), (STATE, 4), (ASYNC_STATE, 4))

    def each_way(self):
        for code, concurrency in self.WAYS:
            runtime, _ = helper_started(code, concurrency=concurrency)
            with runtime:
                yield runtime

    def test_one_commit_before_the_result(self):
        for runtime in self.each_way():
            runtime.send_invoke({"method": "write", "args": {}}, request_id=7)
            # The first frame of all: its own writes were read without asking.
            commit = runtime.next_call()
            self.assertEqual((commit.parent, commit.operation, commit.target), (7, STATE_COMMIT, ""))
            writes = read_commit(commit.body)
            self.assertEqual(
                sorted(writes),
                [
                    ("a/0", None),
                    ("a/1", 'j{"x":"ü"}'.encode(), 1500),
                    ("a/2", b"b\x00raw", 0),
                    ("a/3", b"jnull", 0),
                    ("b", None),
                ],
            )
            runtime.reply(commit)
            self.assertEqual(runtime.answer(7), (RESULT, [{"x": "ü"}, b"\x00raw".hex(), None, "gone"]))

    def test_nothing_is_committed_by_a_failure(self):
        for runtime in self.each_way():
            for then, name in (("raise", "ValueError"), ("set", "ResultNotSerializable")):
                kind, error = runtime.call({"method": "write", "args": {"then": then}})
                self.assertEqual((kind, error["type"]), (ERROR, name))
            # What failed left nothing behind that the next call would see or commit.
            runtime.send_invoke({"method": "read", "args": {"key": "a/1"}})
            call = runtime.next_call()
            self.assertEqual((call.operation, call.target), (STATE_GET, "a/1"))
            runtime.reply(call)
            self.assertEqual(runtime.answer(), (RESULT, "default"))

    def test_a_refused_commit_is_the_methods_error(self):
        for runtime in self.each_way():
            runtime.send_invoke({"method": "write", "args": {}})
            runtime.refuse(runtime.next_call(), type="StateError", message="the state is full", code="state-quota")
            kind, error = runtime.answer()
            self.assertEqual((kind, error["type"], error["message"]), (ERROR, "StateError", "the state is full"))

    def test_values_that_are_there(self):
        for runtime in self.each_way():
            known = ((b'j{"a":[1]}', {"a": [1]}), (b"jnull", None), (b"b\x00\xff", "00ff"), (b"b", ""), (b"", "default"))
            for body, value in known:
                runtime.send_invoke({"method": "read", "args": {"key": "ü"}})
                call = runtime.next_call()
                self.assertEqual(call.target, "ü")
                runtime.reply(call, body)
                self.assertEqual(runtime.answer(), (RESULT, value))

    def test_lists_see_the_calls_own_writes(self):
        for runtime in self.each_way():
            runtime.send_invoke({"method": "list", "args": {}})
            call = runtime.next_call()
            # One more than was asked for, since this call has deleted one.
            self.assertEqual((call.operation, call.target, call.body), (STATE_LIST, "k/", b"\x04\0\0\0"))
            runtime.reply_json(call, ["k/1", "k/2", "k/3", "k/x"])
            runtime.reply(runtime.next_call())
            self.assertEqual(runtime.answer(), (RESULT, ["k/1", "k/3", "k/new"]))

    def test_a_refused_read_can_be_caught(self):
        for runtime in self.each_way():
            runtime.send_invoke({"method": "caught", "args": {}})
            fields = {"code": "state-unavailable", "origin": "platform", "retryable": True}
            runtime.refuse(runtime.next_call(), type="StateError", message="later", **fields)
            self.assertEqual(runtime.answer(), (RESULT, ["state-unavailable", "platform", True, "later"]))

    def test_limits(self):
        for runtime in self.each_way():
            for what in ("key", "long", "value", "nan", "ttl", "limit"):
                kind, error = runtime.call({"method": "invalid", "args": {"what": what}})
                self.assertEqual((kind, error["type"]), (ERROR, "ValueError"), what)
            # More than fits into a frame, which would end the instance.
            kind, error = runtime.call({"method": "large", "args": {}})
            self.assertEqual((kind, error["type"]), (ERROR, "StateError"))
            self.assertIn("4194304 bytes", error["message"])

    def test_threads_of_a_call_write_with_it(self):
        for runtime in self.each_way():
            runtime.send_invoke({"method": "pool", "args": {}})
            commit = runtime.next_call()
            self.assertEqual(sorted(key for key, _, _ in read_commit(commit.body)), ["n0", "n1", "n2", "n3"])
            runtime.reply(commit)
            self.assertEqual(runtime.answer(), (RESULT, [0, 3]))

    def test_what_is_left_behind_commits_by_itself(self):
        for runtime in self.each_way():
            runtime.send_invoke({"method": "leave_behind", "args": {}}, request_id=5)
            commit = runtime.next_call()
            self.assertEqual(read_commit(commit.body), [("in", b"j1", 0)])
            runtime.reply(commit)
            self.assertEqual(runtime.answer(5), (RESULT, None))
            self.assertEqual(runtime.call({"method": "let_go", "args": {}}, request_id=6), (RESULT, None))
            commit = runtime.next_call()
            self.assertEqual((commit.parent, read_commit(commit.body)), (0, [("after", b"j2", 0)]))


class OutsideThePlatform(unittest.TestCase):
    """A helper in its author's own unit tests."""

    class Geo(Helper):
        def start(self):
            self.state.put("hub", self.config.get("hub", "SEA"))

        @method
        def route(self, src):
            if not src:
                raise WrongArguments("src is empty")
            return [src, self.state.get("hub")]

    def test_methods_and_state(self):
        geo = self.Geo()
        geo.config = {"hub": "PDX"}
        geo.start()
        self.assertEqual(geo.route("SFO"), ["SFO", "PDX"])
        self.assertEqual(geo.route(src="SFO"), ["SFO", "PDX"])
        with self.assertRaises(WrongArguments):
            geo.route("")
        self.assertIsNone(self.Geo().state.get("hub"), "every object has a state of its own")
        self.assertEqual((geo.dir, geo.data_version, geo.purpose, list(geo.candidates())), (None, 1, "serve", []))
        with self.assertRaises(HelperError) as raised:
            geo.helper("other")
        self.assertEqual(raised.exception.code, "not-bound")

    def test_state(self):
        state = self.Geo().state
        value = {"a": [1]}
        state.put("b", value)
        value["a"].append(2)
        self.assertEqual(state.get("b"), {"a": [1]}, "a value is what it was when it was put")
        state.put("a", bytearray(b"\x00"))
        state.put("ü", None)
        state.put("zz", 1)
        self.assertEqual((state.get("a"), state.get("ü", "default")), (b"\x00", None))
        self.assertEqual(state.get("absent", "default"), "default")
        self.assertEqual(state.list(), ["a", "b", "zz", "ü"], "in the order of their bytes, null values too")
        self.assertEqual((state.list("z"), state.list(limit=2)), (["zz"], ["a", "b"]))
        state.delete("b")
        state.delete("absent")
        self.assertEqual(state.list(), ["a", "zz", "ü"])
        for wrong in (lambda: state.put("", 1), lambda: state.put("k", float("nan")), lambda: state.list(limit=0)):
            self.assertRaises(ValueError, wrong)
        self.assertRaises(TypeError, state.put, "k", {1, 2})
        self.assertRaises(TypeError, state.get, 1)

    def test_time_to_live(self):
        state = self.Geo().state
        with unittest.mock.patch("raas.memory_state.monotonic") as now:
            now.return_value = 100.0
            state.put("short", 1, ttl_s=1.5)
            state.put("long", 2)
            now.return_value = 101.4
            self.assertEqual(state.list(), ["long", "short"])
            now.return_value = 101.5
            self.assertEqual((state.get("short"), state.get("long"), state.list()), (None, 2, ["long"]))


if __name__ == "__main__":
    unittest.main()
