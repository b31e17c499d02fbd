"""What a handler's value becomes: JSON, or a clear reason why not."""

import json
import unittest

from runtime_process import ERROR, RESULT, started

HANDLER = """
    import datetime, decimal
    cycle = []
    cycle.append(cycle)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    VALUES = {
        "none": None, "text": "grüße \\u2028 \\U0001f600", "number": 1.5, "large": 10**30, "tuple": (1, 2), "keys": {1: "a", None: 2, True: 3},
        "nan": {"a": [1.0, float("nan")]}, "infinity": float("-inf"), "cycle": cycle, "deep": deep, "bytes": b"x",
        "surrogate": {"s": "a\\ud800"}, "surrogate-key": {"\\udfff": 1}, "set": {"items": [{"x": {1}}]}, "date": datetime.date(2020, 1, 1),
        "tuple-key": {(1, 2): 3}, "decimal": decimal.Decimal("1.5"),
        "nearly": "x" * ((6 << 20) - 2), "over": "x" * ((6 << 20) - 1), "over-utf8": "ü" * (4 << 20),
    }
    async def late():
        return "awaited"
    def handler(event, context):
        return late() if event == "coroutine" else VALUES[event]
"""


class Results(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.runtime = started(HANDLER)

    @classmethod
    def tearDownClass(cls):
        cls.runtime.close()

    def test_json_values(self):
        expected = {
            "none": None,
            "text": "grüße \u2028 \U0001f600",
            "number": 1.5,
            "large": 10**30,
            "tuple": [1, 2],
            "coroutine": "awaited",
        }
        for event, value in expected.items():
            with self.subTest(event):
                self.assertEqual(self.runtime.call(event), (RESULT, value))

    def test_keys_become_strings(self):
        self.assertEqual(self.runtime.call("keys")[0], RESULT)

    def test_what_json_cannot_hold(self):
        expected = {
            "nan": "result['a'][1] is nan",
            "infinity": "result is -inf",
            "cycle": "contains itself",
            "deep": "nested too deeply",
            "bytes": "result is of type bytes, which JSON cannot hold; decode it to text, or encode it with base64",
            "surrogate": "result['s'] is text with a lone surrogate at index 1",
            "surrogate-key": "a key of result is text with a lone surrogate",
            "set": "result['items'][0]['x'] is of type set",
            "date": "result is of type date",
            "tuple-key": "result has a key of type tuple",
            "decimal": "result is of type Decimal",
        }
        for event, part in expected.items():
            with self.subTest(event):
                kind, error = self.runtime.call(event)
                self.assertEqual((kind, error["type"]), (ERROR, "ResultNotSerializable"), error)
                self.assertIn(part, error["message"])
        self.assertEqual(self.runtime.call("none"), (RESULT, None), "the instance goes on")

    def test_size_limit(self):
        kind, value = self.runtime.call("nearly")
        self.assertEqual((kind, len(value)), (RESULT, (6 << 20) - 2))
        for event, size in (("over", (6 << 20) + 1), ("over-utf8", (8 << 20) + 2)):
            kind, error = self.runtime.call(event)
            self.assertEqual((kind, error["type"]), (ERROR, "ResponseTooLarge"))
            self.assertIn(str(size), error["message"])


class Events(unittest.TestCase):
    def test_events_arrive_as_they_are(self):
        with started("def handler(event, context):\n    return event\n") as runtime:
            large = {"text": "ü" * 1_000_000, "list": list(range(100_000))}
            for event in (None, True, 0, "", [], {}, {"a": {"b": [1, 2.5, "x"]}}, "x" * 200_000, large):
                self.assertEqual(runtime.call(event), (RESULT, event))
            self.assertEqual(runtime.call(b' \n{"a" : 1}\t', raw=True), (RESULT, {"a": 1}))

    def test_events_that_are_not_json(self):
        with started("def handler(event, context):\n    return event\n") as runtime:
            for text in (b"", b"{", b"1 2", b"NaN", b"-Infinity", b"\xff", b"nul", b"[" * 200_000):
                with self.subTest(text[:10]):
                    kind, error = runtime.call(text, raw=True)
                    self.assertEqual((kind, error["type"]), (ERROR, "InvalidEvent"), error)
            self.assertEqual(runtime.call(1), (RESULT, 1))

    def test_context(self):
        code = """
            def handler(event, context):
                names = ("invocation_id", "function_name", "function_version", "memory_mb", "deadline_ms",
                         "traceparent", "tracestate", "cancelled")
                return {**{n: getattr(context, n) for n in names}, "left": context.get_remaining_time_in_millis()}
        """
        with started(code) as runtime:
            _, got = runtime.call(None, deadline_ms=2**53, trace=b"00-ab-cd-01\nvendor=1")
            left = got.pop("left")
            self.assertTrue(2**52 < left < 2**53)
            self.assertEqual(
                json.dumps(got, sort_keys=True),
                json.dumps(
                    {
                        "invocation_id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
                        "function_name": "tested",
                        "function_version": "7",
                        "memory_mb": 256,
                        "deadline_ms": 2**53,
                        "traceparent": "00-ab-cd-01",
                        "tracestate": "vendor=1",
                        "cancelled": False,
                    },
                    sort_keys=True,
                ),
            )
            self.assertEqual(runtime.call(None, deadline_ms=1)[1]["left"], 0)


if __name__ == "__main__":
    unittest.main()
