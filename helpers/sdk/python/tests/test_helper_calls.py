"""Calls of helpers that code is bound to: what is sent, what comes back, and several at once."""

import json
import unittest

from runtime_process import (
    ANSWER,
    CANCEL,
    ERROR,
    HELPER,
    HELPER_FACTS,
    HELPER_POSITIONAL,
    PING,
    PONG,
    READY,
    RESULT,
    STATE_GET,
    Runtime,
    helper_started,
    pack,
    started,
)

BOUND = {"helpers": ["geo", "maps"]}


def arguments(call):
    return json.loads(call.body)


class Function(unittest.TestCase):
    CODE = """
        from raas import HelperError
        def handler(event, context):
            geo = context.helper("geo")
            if event == "named":
                return geo.route(src="SEA", dst="PDX")
            if event == "positional":
                return geo.route("SEA", 2, by="rail")
            if event == "nothing":
                return geo.all()
            if event == "twice":
                return [geo.one(n=1), context.helper("maps").two(n=2)]
            if event == "uncaught":
                return geo.route()
            try:
                if event == "unbound":
                    return context.helper("weather").today()
                return geo.route(what={1} if event == "set" else "x" * 7_000_000 if event == "large" else event)
            except HelperError as error:
                return [error.type, error.code, error.origin, error.retryable, error.error, error.message, str(error)]
    """

    def each_way(self):
        in_tasks = self.CODE.replace("def handler", "async def handler")
        for code, concurrency in ((self.CODE, 1), (self.CODE, 4), (in_tasks, 4)):
            with started(code, concurrency=concurrency, **BOUND) as runtime:
                yield runtime

    def test_by_name_and_by_place(self):
        for runtime in self.each_way():
            for request_id, (event, operation, target, sent) in enumerate(
                (
                    ("named", HELPER, "geo/route", {"src": "SEA", "dst": "PDX"}),
                    ("positional", HELPER_POSITIONAL, "geo/route", {"positional": ["SEA", 2], "named": {"by": "rail"}}),
                    ("nothing", HELPER, "geo/all", {}),
                ),
                5,
            ):
                runtime.send_invoke(event, request_id)
                call = runtime.next_call()
                self.assertEqual((call.parent, call.operation, call.target), (request_id, operation, target))
                self.assertEqual(arguments(call), sent)
                runtime.reply_json(call, {"way": ["ü", None]})
                self.assertEqual(runtime.answer(request_id), (RESULT, {"way": ["ü", None]}))

    def test_one_after_another(self):
        for runtime in self.each_way():
            runtime.send_invoke("twice")
            for target in ("geo/one", "maps/two"):
                call = runtime.next_call()
                self.assertEqual(call.target, target)
                runtime.reply_json(call, arguments(call)["n"] * 10)
            self.assertEqual(runtime.answer(), (RESULT, [10, 20]))

    def test_refusals(self):
        error = {"type": "LookupError", "message": "no road", "stack": "…"}
        for runtime in self.each_way():
            runtime.send_invoke("caught")
            refusal = {"code": "helper-error", "origin": "helper", "retryable": True, "error": error}
            runtime.refuse(runtime.next_call(), type="FunctionError", message="it failed", **refusal)
            expected = ["FunctionError", "helper-error", "helper", True, error, "it failed", "it failed"]
            self.assertEqual(runtime.answer(), (RESULT, expected))
            runtime.send_invoke("uncaught")
            runtime.refuse(runtime.next_call(), message="it failed")
            kind, shown = runtime.answer()
            self.assertEqual((kind, shown["type"], shown["message"]), (ERROR, "HelperError", "it failed"))
            self.assertIn("geo.route()", shown["stack"])
            # A refusal that cannot be read is one all the same.
            runtime.send_invoke("caught")
            call = runtime.next_call()
            runtime.send(pack(ANSWER, call.id, b"\x01not json"))
            self.assertEqual(runtime.answer()[1][1], "unknown")

    def test_what_is_refused_without_asking(self):
        for runtime in self.each_way():
            for event, code, message in (
                ("unbound", "not-bound", "no helper is bound by the name 'weather'; bound are: geo, maps"),
                ("set", "wrong-arguments", "geo/route: arguments['what'] is of type set"),
                ("large", "wrong-arguments", "7000011 bytes"),
            ):
                kind, got = runtime.call(event)
                self.assertEqual((kind, got[1], got[2]), (RESULT, code, "caller"))
                self.assertIn(message, got[5])

    def test_nothing_bound(self):
        with started(self.CODE) as runtime:
            kind, error = runtime.call("named")
            self.assertEqual((kind, error["type"]), (ERROR, "HelperError"))
            self.assertIn("bound are: none", error["message"])

    def test_a_helper_calls_helpers(self):
        code = """
            from raas import Helper, method
            class Geo(Helper):
                def start(self):
                    self.hub = self.helper("maps").hub(of="WA")
                @method
                def route(self, dst):
                    return self.helper("maps").way(self.hub, dst)
        """
        with Runtime({"main.py": code}) as runtime:
            runtime.boot()
            runtime.send_init(handler="main:Geo", helper=HELPER_FACTS, **BOUND)
            call = runtime.next_call()
            self.assertEqual((call.parent, call.target, arguments(call)), (0, "maps/hub", {"of": "WA"}))
            # What comes while the code is loaded waits until it is.
            runtime.send_invoke({"method": "route", "args": {"dst": "PDX"}})
            runtime.reply_json(call, "SEA")
            self.assertEqual(runtime.next_answer()[0], READY)
            call = runtime.next_call()
            self.assertEqual(arguments(call), {"positional": ["SEA", "PDX"], "named": {}})
            runtime.reply_json(call, "I-5")
            self.assertEqual(runtime.answer(1), (RESULT, "I-5"))


class Async(unittest.TestCase):
    def test_several_at_once_answered_out_of_order(self):
        code = """
            import asyncio
            async def several(context):
                geo = context.helper("geo").aio
                return await asyncio.gather(*(geo.at(n) for n in range(5)), geo.named(n=5))
            {handler}
        """
        own_loop = "def handler(event, context):\n    return asyncio.run(several(context))\n".replace("\n", "\n            ")
        loop = "async def handler(event, context):\n    return await several(context)\n".replace("\n", "\n            ")
        for handler, concurrency in ((loop, 1), (loop, 4), (own_loop, 1), (own_loop, 4)):
            with started(code.replace("{handler}", handler), concurrency=concurrency, **BOUND) as runtime:
                runtime.send_invoke(None, 3)
                # All are there before any of them is answered.
                calls = [runtime.next_call() for _ in range(6)]
                self.assertEqual({call.parent for call in calls}, {3})
                self.assertEqual(len({call.id for call in calls}), 6)
                for call in reversed(calls):
                    sent = arguments(call)
                    runtime.reply_json(call, sent["n"] if call.operation == HELPER else sent["positional"][0])
                self.assertEqual(runtime.answer(3), (RESULT, [0, 1, 2, 3, 4, 5]))

    def test_refused_and_given_up(self):
        code = """
            import asyncio
            from raas import HelperError
            async def handler(event, context):
                geo = context.helper("geo").aio
                first = asyncio.ensure_future(geo.slow())
                try:
                    await geo.wrong()
                except HelperError as error:
                    first.cancel()
                    return [error.code, await geo.last()]
        """
        with started(code, **BOUND) as runtime:
            runtime.send_invoke()
            calls = {call.target: call for call in (runtime.next_call(), runtime.next_call())}
            runtime.refuse(calls["geo/wrong"], code="timeout")
            last = runtime.next_call()
            # Too late: nobody waits for it, and nothing breaks.
            runtime.reply_json(calls["geo/slow"], "late")
            runtime.reply_json(last, "last")
            self.assertEqual(runtime.answer(), (RESULT, ["timeout", "last"]))

    def test_no_more_in_flight_than_allowed(self):
        code = """
            import asyncio
            async def handler(event, context):
                return sum(await asyncio.gather(*(context.helper("geo").aio.at(n=n) for n in range(1100))))
        """
        with started(code, **BOUND) as runtime:
            runtime.send_invoke()
            calls = [runtime.next_call() for _ in range(1000)]
            runtime.send(pack(PING, 9))
            self.assertEqual(runtime.next_answer()[:2], (PONG, 9), "the others wait")
            for _ in range(100):
                runtime.reply_json(calls.pop(0), 1)
                calls.append(runtime.next_call())
            for call in calls:
                runtime.reply_json(call, 1)
            self.assertEqual(runtime.answer(), (RESULT, 1100))

    def test_other_requests_go_on_meanwhile(self):
        code = """
            async def handler(event, context):
                return await context.helper("geo").aio.at(n=event) if event else "quick"
        """
        with started(code, concurrency=4, **BOUND) as runtime:
            runtime.send_invoke(7, 1)
            call = runtime.next_call()
            self.assertEqual(runtime.call(None, 2), (RESULT, "quick"))
            runtime.send(pack(CANCEL, 1))
            self.assertEqual(runtime.answer(1)[1]["type"], "CancelledError")
            runtime.reply_json(call, "late")
            self.assertEqual(runtime.call(None, 3), (RESULT, "quick"))

    def test_plain_calls_and_threads_of_an_async_handler(self):
        code = """
            import asyncio
            from concurrent.futures import ThreadPoolExecutor
            async def handler(event, context):
                geo = context.helper("geo")
                if event == "thread":
                    return await asyncio.get_running_loop().run_in_executor(None, lambda: geo.at(n=1))
                if event == "pool":
                    # Keeps the loop, which then cannot read for the threads.
                    with ThreadPoolExecutor(3) as pool:
                        return list(pool.map(lambda n: geo.at(n=n), range(3)))
                task = asyncio.ensure_future(geo.aio.at(n=1))
                await asyncio.sleep(0)
                return [geo.at(n=2), await task]
        """
        with started(code, concurrency=4, **BOUND) as runtime:
            for event, count, value in (("thread", 1, 10), ("pool", 3, [0, 10, 20]), ("both", 2, [20, 10])):
                runtime.send_invoke(event, 6)
                calls = [runtime.next_call() for _ in range(count)]
                self.assertEqual({call.parent for call in calls}, {6})
                for call in calls:
                    runtime.reply_json(call, arguments(call)["n"] * 10)
                self.assertEqual(runtime.answer(6), (RESULT, value))


class HelperConcurrency(unittest.TestCase):
    def test_calls_of_a_helper_at_once(self):
        code = """
            from raas import Helper, method
            class Geo(Helper):
                @method
                def at(self, n):
                    return self.state.get(f"k{n}")
        """
        runtime, _ = helper_started(code, concurrency=8)
        with runtime:
            for turn in range(0, 100, 10):
                for n in range(8):
                    runtime.send_invoke({"method": "at", "args": {"n": n}}, turn + n + 1)
                calls = [runtime.next_call() for _ in range(8)]
                self.assertEqual({call.operation for call in calls}, {STATE_GET})
                self.assertEqual({call.parent - turn: call.target for call in calls}, {n + 1: f"k{n}" for n in range(8)})
                for call in calls[::-1]:
                    runtime.reply(call, b"j%d" % call.parent)
                results = dict(runtime.next_answer()[1:] for _ in range(8))
                self.assertEqual(results, {turn + n: b"%d" % (turn + n) for n in range(1, 9)})


if __name__ == "__main__":
    unittest.main()
