"""Persistent helpers: what READY says of a class, its methods, its hooks, and its end."""

import json
import unittest

from runtime_process import (
    ERROR,
    HELPER_FACTS,
    INIT_FAILED,
    READY,
    RESULT,
    STOP,
    Runtime,
    helper_started,
    pack,
    read_commit,
)

METHODS = """
    from raas import Helper, WrongArguments, method
    class Base(Helper):
        @method
        def inherited(self):
            return "from the base"
    class Geo(Base):
        @method
        def route(self, src, dst="nowhere", *, by=None):
            return [src, dst, by]
        @method
        async def later(self, **anything):
            return sorted(anything)
        @method
        def strict(self, n):
            if n < 0:
                raise WrongArguments("n is not below 0")
            return n
        @method
        def broken(self):
            raise LookupError("the map is torn")
        @method
        def facts(self):
            return [self.config, self.dir, self.data_version, self.purpose]
        def not_marked(self):
            return "secret"
        @method
        def _private(self):
            return "secret"
        def candidates(self):
            return ()
        def stop(self):
            pass
"""
SYNC_METHODS = METHODS.replace("async def later", "def later")


class Methods(unittest.TestCase):
    def test_ready_tells_what_the_class_has(self):
        runtime, ready = helper_started(METHODS)
        with runtime:
            self.assertGreater(ready.pop("init_us"), 0)
            parameters = {
                "broken": [],
                "facts": [],
                "inherited": [],
                "later": [],
                "route": ["src", "dst", "by"],
                "strict": ["n"],
            }
            expected = {"methods": sorted(parameters), "parameters": parameters, "hooks": ["candidates", "stop"]}
            self.assertEqual(ready, expected)

    def test_named_arguments_and_facts(self):
        for code, concurrency in ((METHODS, 1), (SYNC_METHODS, 1), (SYNC_METHODS, 4)):
            runtime, _ = helper_started(code, {"purpose": "train"}, concurrency=concurrency)
            with self.subTest(concurrency=concurrency), runtime:
                for name, arguments, value in (
                    ("route", {"src": "SEA"}, ["SEA", "nowhere", None]),
                    ("route", {"by": "rail", "dst": "PDX", "src": "SEA"}, ["SEA", "PDX", "rail"]),
                    ("later", {"b": 1, "a": 2}, ["a", "b"]),
                    ("inherited", {}, "from the base"),
                    ("facts", {}, [{"hub": "SEA"}, "/var/state", 3, "train"]),
                ):
                    self.assertEqual(runtime.call({"method": name, "args": arguments}), (RESULT, value))

    def test_errors_say_whether_the_caller_is_at_fault(self):
        for code, concurrency in ((METHODS, 1), (SYNC_METHODS, 1), (SYNC_METHODS, 4)):
            runtime, _ = helper_started(code, concurrency=concurrency)
            with self.subTest(concurrency=concurrency), runtime:
                for name, arguments, error_code, message in (
                    ("nothing", {}, "unknown-method", "there are: broken, facts, inherited, later, route, strict"),
                    ("not_marked", {}, "unknown-method", "no method not_marked"),
                    ("_private", {}, "unknown-method", "no method _private"),
                    ("stop", {}, "unknown-method", "no method stop"),
                    ("route", {}, "wrong-arguments", "route lacks: src"),
                    ("route", {"src": 1, "self": 2}, "wrong-arguments", "does not take: self; it takes: src, dst, by"),
                    ("route", ["SEA"], "wrong-arguments", "named ones"),
                    ("strict", {"n": -1}, "wrong-arguments", "n is not below 0"),
                    ("broken", {}, None, "the map is torn"),
                ):
                    kind, error = runtime.call({"method": name, "args": arguments})
                    self.assertEqual((kind, error.get("code")), (ERROR, error_code), error)
                    self.assertIn(message, error["message"])
                self.assertEqual(runtime.call({"method": "strict", "args": {"n": 1}}), (RESULT, 1), "the instance goes on")

    def test_only_the_helpers_own_frames(self):
        runtime, _ = helper_started(METHODS)
        with runtime:
            _, error = runtime.call({"method": "broken", "args": {}})
            self.assertEqual(error["stack"].count("File "), 1, error["stack"])
            self.assertIn('File "main.py"', error["stack"])


class InitFailed(unittest.TestCase):
    def fails(self, code, handler="main:Geo"):
        with Runtime({"main.py": "from raas import Helper, method\n" + code}) as runtime:
            runtime.boot()
            kind, error = runtime.init(handler=handler, helper=HELPER_FACTS)
            self.assertEqual(kind, INIT_FAILED)
            self.assertEqual(runtime.wait(), 1)
            return error

    def test_start_raises(self):
        error = self.fails("class Geo(Helper):\n    def start(self):\n        raise OSError('no map')\n")
        self.assertEqual((error["type"], error["message"]), ("OSError", "no map"))
        self.assertIn("in start", error["stack"])

    def test_entries_that_are_no_helpers(self):
        for code, handler, message in (
            ("class Other(Helper): pass", "main:Geo", "it has: Other"),
            ("class Geo: pass", "main:Geo", "no class Geo derived from raas.Helper"),
            ("class Geo(Helper): pass", "main.Geo", "module:Class"),
            ("class Geo(Helper): pass", "absent:Geo", 'no module "absent"'),
            ("class Geo(Helper):\n    @method\n    def at(self, x, /): pass", "main:Geo", "parameters before `/`"),
            ("class Geo(Helper):\n    async def start(self): pass", "main:Geo", "start() is `async def`"),
            ("class Geo(Helper):\n    async def candidates(self): yield 1", "main:Geo", "candidates() is `async def`"),
        ):
            with self.subTest(code):
                self.assertIn(message, self.fails(code, handler)["message"])

    def test_a_refused_commit_of_start(self):
        code = "from raas import Helper\nclass Geo(Helper):\n    def start(self):\n        self.state.put('a', 1)\n"
        with Runtime({"main.py": code}) as runtime:
            runtime.boot()
            runtime.send_init(handler="main:Geo", helper=HELPER_FACTS)
            runtime.refuse(runtime.next_call(), message="full", code="state-quota")
            kind, _, payload = runtime.next_answer()
            self.assertEqual((kind, json.loads(payload)["message"]), (INIT_FAILED, "full"))


HOOKS = """
    import os
    from raas import Helper, method
    class Geo(Helper):
        def start(self):
            self.state.put("started", self.config["hub"])
        @method
        def route(self, src, dst):
            return self.config
        def candidates(self):
            self.state.put("asked", True)
            yield "route", ("SEA", "PDX")
            yield self.route, ["SEA", "SFO"]
            yield self.route, {"src": "A", "dst": "B"}
            while True:
                yield "route", ()
        def train(self):
            self.state.put("model", b"weights")
            return {"loss": 0.5}
        def reconfigure(self, config):
            if "hub" not in config:
                raise ValueError("a hub is needed")
            self.state.put("hub", config["hub"])
        def health(self):
            return self.config["hub"] == "SEA"
        def suspend(self):
            print("suspended")
        def resume(self):
            print("resumed")
        def stop(self):
            self.state.put("stopped", 1)
            print("stopped")
"""


class Hooks(unittest.TestCase):
    def started(self, code, concurrency=1):
        runtime = Runtime({"main.py": code})
        self.addCleanup(runtime.close)
        runtime.boot()
        runtime.send_init(handler="main:Geo", helper=HELPER_FACTS, concurrency=concurrency)
        self.commits(runtime, ("started", b'j"SEA"', 0), parent=0)
        kind, _, payload = runtime.next_answer()
        self.assertEqual(kind, READY, payload)
        return runtime

    def commits(self, runtime, *writes, parent=1):
        commit = runtime.next_call()
        self.assertEqual((commit.parent, read_commit(commit.body)), (parent, list(writes)))
        runtime.reply(commit)

    def test_hooks(self):
        async_hooks = HOOKS + "\n        @method\n        async def unused(self):\n            pass\n"
        for code, concurrency in ((HOOKS, 1), (HOOKS, 4), (async_hooks, 1)):
            with self.subTest(concurrency=concurrency):
                runtime = self.started(code, concurrency)
                runtime.send_invoke({"hook": "train"})
                self.commits(runtime, ("model", b"bweights", 0))
                self.assertEqual(runtime.answer(), (RESULT, {"value": {"loss": 0.5}}))
                runtime.send_invoke({"hook": "candidates", "limit": 3})
                self.commits(runtime, ("asked", b"jtrue", 0))
                arguments = ({"src": "SEA", "dst": "PDX"}, {"src": "SEA", "dst": "SFO"}, {"src": "A", "dst": "B"})
                self.assertEqual(runtime.answer(), (RESULT, [{"method": "route", "args": one} for one in arguments]))
                self.assertEqual(runtime.call({"hook": "health"}), (RESULT, True))
                kind, error = runtime.call({"hook": "reconfigure", "config": {}})
                self.assertEqual((kind, error["message"]), (ERROR, "a hub is needed"))
                runtime.send_invoke({"hook": "reconfigure", "config": {"hub": "LAX"}})
                self.commits(runtime, ("hub", b'j"LAX"', 0))
                self.assertEqual(runtime.answer(), (RESULT, None))
                self.assertEqual(runtime.call({"hook": "health"}), (RESULT, False))
                self.assertEqual(runtime.call({"method": "route", "args": {"src": 1, "dst": 2}}), (RESULT, {"hub": "LAX"}))
                runtime.logs.clear()
                runtime.call({"hook": "suspend"})
                runtime.call({"hook": "resume"})
                self.assertEqual([text for _, _, text in runtime.logs], ["suspended", "resumed"])
                self.assertEqual(runtime.call({"hook": "unheard-of"})[0], ERROR)
                runtime.send(pack(STOP))
                self.commits(runtime, ("stopped", b"j1", 0), parent=0)
                self.assertIsNone(runtime.next_answer())
                self.assertEqual(runtime.logs[2:], [(0, 1, "stopped")])
                self.assertEqual(runtime.wait(), 0)

    def test_candidates_that_are_no_calls(self):
        code = """
            from raas import Helper, method
            class Geo(Helper):
                @method
                def route(self, src): pass
                @method
                def pick(self): pass
                def candidates(self):
                    return self.config
        """
        for config, message in (
            ([["absent", []]], "no method absent"),
            ([["route", ["SEA", "PDX"]]], "route takes 1 arguments, not ['SEA', 'PDX']"),
            ([["route", "SEA"]], "a dict, a tuple or a list, not 'SEA'"),
        ):
            runtime, ready = helper_started(code, {"config": config})
            with runtime:
                self.assertEqual(ready["hooks"], ["candidates"])
                kind, error = runtime.call({"hook": "candidates", "limit": 10})
                self.assertEqual(kind, ERROR)
                self.assertIn(message, error["message"])

    def test_hooks_that_the_class_does_not_have(self):
        runtime, ready = helper_started("from raas import Helper\nclass Geo(Helper):\n    pass\n")
        with runtime:
            self.assertEqual((ready["hooks"], ready["methods"]), ([], []))
            self.assertEqual(runtime.call({"hook": "candidates", "limit": 10}), (RESULT, []))
            self.assertEqual(runtime.call({"hook": "health"}), (RESULT, True))
            runtime.send(pack(STOP))
            self.assertEqual(runtime.wait(), 0)

    def test_stop_that_raises_still_ends_in_order(self):
        code = "from raas import Helper\nclass Geo(Helper):\n    def stop(self):\n        raise ValueError('no end')\n"
        runtime, _ = helper_started(code)
        with runtime:
            runtime.send(pack(STOP))
            self.assertIsNone(runtime.next_answer())
            self.assertIn("ValueError: no end", [text for _, _, text in runtime.logs])
            self.assertEqual(runtime.wait(), 0)


if __name__ == "__main__":
    unittest.main()
