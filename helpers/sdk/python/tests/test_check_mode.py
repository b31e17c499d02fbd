"""Check mode: what code sees of the time is wrong on purpose, and what the runtime goes by is not."""

import time
import unittest

from runtime_process import RESULT, started

DAY_S = 86_400
SHIFT_S = -37 * DAY_S - 3_723
# How far two readings of one clock may be apart in a test.
NEAR_S = 120


def check(shift_s=SHIFT_S, **more):
    return {"clock_shift_s": shift_s, "record_reads": False, **more}


WALL = """
    import datetime, time, calendar
    from datetime import datetime as moment, date, timezone
    from time import time as now, time_ns, gmtime
    class Own(moment):
        pass
    class Timer:
        clock = time.time
    def handler(event, context):
        local = calendar.timegm
        utc = lambda one: one.replace(tzinfo=timezone.utc).timestamp()
        aware = lambda one: one.timestamp()
        return {
            "time": now(), "time_ns": time_ns() / 1e9, "gmtime": local(gmtime()), "gmtime(None)": local(gmtime(None)),
            "localtime": time.mktime(time.localtime()), "ctime": time.mktime(time.strptime(time.ctime())),
            "asctime": time.mktime(time.strptime(time.asctime())),
            "strftime": time.mktime(time.strptime(time.strftime("%Y-%m-%d %H:%M:%S"), "%Y-%m-%d %H:%M:%S")),
            "clock_gettime": time.clock_gettime(time.CLOCK_REALTIME),
            "clock_gettime_ns": time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e9,
            "now": aware(moment.now()), "now(tz)": aware(datetime.datetime.now(timezone.utc)), "now(tz=)": aware(moment.now(tz=timezone.utc)),
            "utcnow": utc(moment.utcnow()), "today": aware(moment.today()), "subclass": aware(Own.now()),
            "attribute": Timer().clock(),
            "date": time.mktime(date.today().timetuple()) + (now() - time.mktime(moment.now().date().timetuple())),
        }
"""


class Clocks(unittest.TestCase):
    def test_every_way_to_ask_for_the_wall_clock_is_shifted(self):
        for shift_s in (SHIFT_S, -SHIFT_S):
            with started(WALL, check=check(shift_s)) as runtime:
                kind, seen = runtime.call()
                self.assertEqual(kind, RESULT, seen)
                for way, value in seen.items():
                    with self.subTest(way):
                        self.assertAlmostEqual(value, time.time() + shift_s, delta=NEAR_S)

    def test_without_check_nothing_is_replaced(self):
        code = """
            import sys, time, datetime
            def handler(event, context):
                kinds = [type(one).__name__ for one in (time.time, time.monotonic, time.gmtime, datetime.datetime.now)]
                return kinds, [name for name in sys.modules if name.startswith("raas.runtime.") and "check" in name or "recorded" in name]
        """
        with started(code) as runtime:
            self.assertEqual(runtime.call()[1], [["builtin_function_or_method"] * 4, []])

    def test_counting_clocks_are_off_by_a_constant_of_their_own(self):
        code = """
            import time
            def handler(event, context):
                before = time.perf_counter_ns(), time.monotonic_ns(), time.process_time()
                time.sleep(0.01)
                near = abs(time.monotonic() - time.clock_gettime(time.CLOCK_MONOTONIC)) < 5
                passed = (time.perf_counter_ns() - before[0]) / 1e9
                return [time.monotonic(), time.monotonic_ns() / 1e9, time.perf_counter(), before[0] / 1e9], near, passed
        """
        with started(code, check=check()) as runtime:
            readings, near, passed = runtime.call()[1]
            self.assertTrue(near)
            self.assertTrue(0.01 <= passed < 5, passed)
            for reading in readings:
                offset_s = reading - time.monotonic()
                self.assertGreater(abs(offset_s), DAY_S)
                self.assertGreater(abs(offset_s - SHIFT_S), DAY_S)
                self.assertAlmostEqual(reading, readings[0], delta=NEAR_S)

    def test_waiting_works_and_the_deadline_is_the_real_one(self):
        code = """
            import asyncio, queue, threading, time
            def wait_for(seconds):
                end = time.monotonic() + seconds
                condition = threading.Condition()
                with condition:
                    condition.wait_for(lambda: False, 0.001)
                try:
                    queue.Queue().get(timeout=0.001)
                except queue.Empty:
                    return time.monotonic() < end + 10
            async def handler(event, context):
                try:
                    await asyncio.wait_for(asyncio.sleep(10), 0.01)
                except asyncio.TimeoutError:
                    return wait_for(0.001), context.get_remaining_time_in_millis()
        """
        with started(code, check=check(400 * DAY_S)) as runtime:
            deadline_ms = int(time.time() * 1000) + 60_000
            kind, seen = runtime.call(deadline_ms=deadline_ms)
            self.assertEqual(kind, RESULT, seen)
            waited, remaining_ms = seen
            self.assertTrue(waited)
            self.assertTrue(0 < remaining_ms <= 60_000, remaining_ms)

    def test_dates_stay_dates(self):
        code = """
            import copy, datetime, pickle, time
            from datetime import datetime as moment, timedelta
            plain = moment.fromtimestamp(86400 * 365, datetime.timezone.utc)
            class Own(moment):
                def label(self):
                    return "own"
            def handler(event, context):
                now = moment.now()
                return {
                    "instance": isinstance(now, moment) and isinstance(now, datetime.date) and type(now) is moment,
                    "subclass": [type(Own.now()) is Own, Own.now().label(), type(Own.today()) is Own, issubclass(Own, moment)],
                    "pickle": pickle.loads(pickle.dumps([now, Own(2020, 1, 2), now.date()])) == [now, Own(2020, 1, 2), now.date()],
                    "copy": copy.deepcopy(now) == now,
                    "text": [repr(plain), plain.isoformat(), moment.fromisoformat(plain.isoformat()) == plain],
                    "arithmetic": [str(plain + timedelta(days=1) - plain), now - timedelta(0) == now],
                    "given": [time.gmtime(0).tm_year, time.strftime("%Y", time.gmtime(0)), time.asctime(time.gmtime(0)), moment.strptime("2020", "%Y").year],
                    "names": [moment.__name__, moment.now.__name__, time.time.__name__, repr(moment)],
                    "sealed": pickle.loads(pickle.dumps(time.time)) is time.time,
                }
        """
        with started(code, check=check()) as runtime:
            kind, seen = runtime.call()
            self.assertEqual(kind, RESULT, seen)
            self.assertEqual(
                seen,
                {
                    "instance": True,
                    "subclass": [True, "own", True, True],
                    "pickle": True,
                    "copy": True,
                    "text": [
                        "datetime.datetime(1971, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)",
                        "1971-01-01T00:00:00+00:00",
                        True,
                    ],
                    "arithmetic": ["1 day, 0:00:00", True],
                    "given": [1970, "1970", "Thu Jan  1 00:00:00 1970", 2020],
                    "names": ["datetime", "now", "time", "<class 'datetime.datetime'>"],
                    "sealed": True,
                },
            )


class TimeZone(unittest.TestCase):
    code = """
        import os, time
        from datetime import datetime
        AT_IMPORT = time.timezone
        def handler(event, context):
            offset = lambda one: one.utcoffset().total_seconds()
            return [os.environ["TZ"], AT_IMPORT, time.localtime(0).tm_hour, datetime.fromtimestamp(0).hour, offset(datetime.now().astimezone())]
    """

    def test_it_wins_over_the_manifests(self):
        with started(self.code, env={"TZ": "UTC"}, check=check(time_zone="Asia/Kathmandu")) as runtime:
            self.assertEqual(runtime.call()[1], ["Asia/Kathmandu", -20_700, 5, 5, 20_700])

    def test_it_stays_the_functions_own_where_check_has_none(self):
        with started(self.code, env={"TZ": "Asia/Tokyo"}, check=check()) as runtime:
            self.assertEqual(runtime.call()[1], ["Asia/Tokyo", -32_400, 9, 9, 32_400])


if __name__ == "__main__":
    unittest.main()
