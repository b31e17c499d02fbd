"""INIT's `check`: time zone and clocks are others for code, and the same for the platform."""

import time
import unittest

from runtime_process import INIT_FAILED, READY, RESULT, Runtime, started

SHIFT_S = -200_000_000
#: How far two readings of the same clock may lie apart here: less than any shift.
SLACK_S = 1_000_000
ZONE = "Pacific/Chatham"  # no whole number of hours from UTC
CODE = """
    import datetime, json, os, pickle, subprocess, sys, time, uuid
    from datetime import date, datetime as DateTime, timezone
    from time import monotonic, monotonic_ns, perf_counter, perf_counter_ns
    imported_at = time.time()

    class Sub(DateTime):
        pass

    class Timer:
        clock = time.time

    def naive(utc):
        return utc.replace(tzinfo=timezone.utc).timestamp()

    WALL = {
        "time": lambda: time.time(),
        "time_ns": lambda: time.time_ns() / 1e9,
        "clock_gettime": lambda: time.clock_gettime(time.CLOCK_REALTIME),
        "clock_gettime_ns": lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e9,
        "at import": lambda: imported_at,
        "class attribute": lambda: Timer().clock(),
        "gmtime": lambda: naive(DateTime(*time.gmtime()[:6])),
        "gmtime(None)": lambda: naive(DateTime(*time.gmtime(None)[:6])),
        "localtime": lambda: time.mktime(time.localtime()),
        "ctime": lambda: time.mktime(time.strptime(time.ctime())),
        "asctime": lambda: time.mktime(time.strptime(time.asctime())),
        "strftime": lambda: float(time.strftime("%s")),
        "now": lambda: DateTime.now().timestamp(),
        "now(tz)": lambda: DateTime.now(timezone.utc).timestamp(),
        "utcnow": lambda: naive(DateTime.utcnow()),
        "datetime.today": lambda: DateTime.today().timestamp(),
        "date.today": lambda: time.mktime(date.today().timetuple()),
        "Sub.now": lambda: Sub.now().timestamp(),
        "uuid1": lambda: uuid.uuid1().time / 1e7 - 12_219_292_800,
    }

    def handler(event, context):
        return {
            "wall": {name: read() for name, read in WALL.items()},
            "origins": [monotonic(), monotonic_ns() / 1e9, perf_counter(), perf_counter_ns() / 1e9,
                        time.clock_gettime(time.CLOCK_MONOTONIC)],
            "zone": [time.strftime("%z", time.localtime(0)), DateTime.fromtimestamp(0).isoformat(), os.environ["TZ"]],
            "left_ms": context.get_remaining_time_in_millis(),
            "given": [time.gmtime(5)[:6], time.ctime(0), time.strftime("%Y", time.gmtime(0)), time.asctime(time.gmtime(0))],
        }

    def classes(event, context):
        now, sub = DateTime.now(), Sub.now()
        copied = pickle.loads(pickle.dumps([now, sub.date(), date.today(), DateTime.now(timezone.utc)]))
        return [
            DateTime is datetime.datetime and type(now) is DateTime,
            isinstance(now, date) and not isinstance(date.today(), DateTime),
            type(sub) is Sub and type(Sub.utcnow()) is Sub and type(Sub.today()) is Sub,
            type(DateTime.strptime("2020", "%Y")) is type(now + datetime.timedelta(1)) is DateTime,
            copied[0] == now and type(copied[0]) is DateTime and type(copied[1]) is type(now.date()) is date,
            copied[3].tzinfo is timezone.utc,
            pickle.loads(pickle.dumps(time.time)) is time.time,
            DateTime.min < now < DateTime.max and now + (DateTime.now() - now) >= now,
            uuid.uuid1().version == 1 and uuid.uuid1() != uuid.uuid1(),
        ]
"""


class Clock(unittest.TestCase):
    def test_clocks_and_zone(self):
        check = {"clock_shift_s": SHIFT_S, "time_zone": ZONE}
        with started(CODE, check=check, env={"TZ": "Europe/Berlin"}) as runtime:
            here, origin = time.time(), time.monotonic()
            kind, got = runtime.call()
            self.assertEqual(kind, RESULT)
            for name, value in got["wall"].items():
                with self.subTest(name):
                    self.assertLess(abs(value - here - SHIFT_S), SLACK_S)
            for value in got["origins"]:
                self.assertGreater(value - origin, SLACK_S)
            self.assertEqual(got["zone"], ["+1245", "1970-01-01T12:45:00", ZONE])
            self.assertTrue(0 < got["left_ms"] <= 30_000, "deadlines are those of the platform's clock")
            self.assertEqual(got["given"][0], [1970, 1, 1, 0, 0, 5])
            self.assertEqual(got["given"][1:], ["Thu Jan  1 12:45:00 1970", "1970", "Thu Jan  1 00:00:00 1970"])

    def test_classes_stay_what_they_are(self):
        with started(CODE, handler="main.classes", check={"clock_shift_s": 1}) as runtime:
            self.assertEqual(runtime.call(), (RESULT, [True] * 9))

    def test_parts_may_be_left_out(self):
        with started(CODE, check={"time_zone": ZONE}, env={"TZ": "UTC"}) as runtime:
            here = time.time()
            _, got = runtime.call()
            self.assertLess(abs(got["wall"]["time"] - here), SLACK_S)
            self.assertEqual(got["zone"][2], ZONE)
        with started(CODE, check={"clock_shift_s": SHIFT_S}, env={"TZ": "Europe/Berlin"}) as runtime:
            self.assertEqual(runtime.call()[1]["zone"][2], "Europe/Berlin")

    def test_an_event_loop_keeps_its_delays(self):
        code = """
            import asyncio, time
            async def handler(event, context):
                started = time.monotonic()
                await asyncio.wait_for(asyncio.sleep(0.001), 20)
                return time.monotonic() - started < 20
        """
        with started(code, check={"clock_shift_s": 10**8}) as runtime:
            self.assertEqual(runtime.call(), (RESULT, True))

    def test_a_helper_sees_them_too(self):
        code = """
            import time
            from raas import Helper, method
            class Geo(Helper):
                @method
                def now(self):
                    return [time.time(), time.strftime("%z", time.localtime(0))]
        """
        facts = {"instance_id": "1", "config": {}, "data_version": 1, "dir": None, "purpose": "serve"}
        check = {"clock_shift_s": SHIFT_S, "time_zone": ZONE, "record_reads": True}
        with started(code, handler="main:Geo", helper=facts, check=check) as runtime:
            here = time.time()
            kind, got = runtime.call({"method": "now", "args": {}})
            self.assertEqual((kind, got[1]), (RESULT, "+1245"), "with no READS before it")
            self.assertLess(abs(got[0] - here - SHIFT_S), SLACK_S)

    def test_what_cannot_be_done_is_said(self):
        for check, part in (
            ({"time_zone": "Mars/Olympus"}, "Mars/Olympus"),
            ({"time_zone": "../etc/passwd"}, "../etc/passwd"),
            ({"clock_shift_s": 1.5}, "whole number"),
            ({"clock_shift_s": True}, "whole number"),
        ):
            with self.subTest(check), Runtime({"main.py": CODE}) as runtime:
                runtime.boot()
                kind, error = runtime.init(check=check)
                self.assertEqual((kind, error["type"]), (INIT_FAILED, "InvalidCheck"))
                self.assertIn(part, error["message"])


class WithoutCheck(unittest.TestCase):
    CODE = """
        import datetime, sys, time
        def handler(event, context):
            ours = [name for name in sys.modules if name.startswith("raas.runtime.")]
            return [
                type(event).__mro__ == (dict, object), type(time.time).__name__, type(datetime.datetime.now).__name__,
                [name for name in ours if name.rpartition(".")[2] in ("check", "reads", "recorded_event", "shifted_clock")],
                "zoneinfo" in sys.modules, "ctypes" in sys.modules,
            ]
    """

    def test_nothing_is_loaded_or_replaced(self):
        for settings in ({}, {"check": None}):
            with started(self.CODE, **settings) as runtime:
                builtin = "builtin_function_or_method"
                self.assertEqual(runtime.call({"a": 1}), (RESULT, [True, builtin, builtin, [], False, False]))

    def test_each_process_has_its_own_hash_seed(self):
        code = "def handler(event, context):\n    return [hash('the same text') for _ in range(2)]\n"
        hashes = []
        for _ in range(2):
            with started(code) as runtime:
                hashes.append(runtime.call()[1])
        self.assertEqual([len(set(pair)) for pair in hashes], [1, 1])
        self.assertNotEqual(*hashes)


if __name__ == "__main__":
    unittest.main()
