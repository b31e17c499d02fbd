"""The arithmetic on data whose answer is known, the accuracy on the shipped year, and the methods with state in memory."""

import math
import random
import unittest
from datetime import datetime, timedelta
from unittest import mock

from raas import WrongArguments

import evaluation
import forecast
import seasonal_model
from readings import WAITING_MAX, Readings

NOW = datetime(2026, 7, 2, 12, 30)
SHIPPED = forecast.load_shipped()
# What a helper learns at its first start, learnt once for all tests.
FIRST = forecast.learn(SHIPPED, {})
USUAL = seasonal_model.SeasonalModel(**FIRST["model"])


def weather(begin, hours, seed=1, warmer=0.0, persistence=0.95, step=2.0):
    """Made-up readings: the shipped year's temperatures with deviations that last, as an autoregression has them."""
    chance = random.Random(seed)
    first = int(forecast.hour_of(begin))
    deviation = 0.0
    readings = {}
    for hour in range(first, first + hours):
        deviation = persistence * deviation + chance.gauss(0, step)
        readings[hour] = round(USUAL.season(hour) + warmer + deviation, 2)
    return readings


def pushed(readings):
    """Readings by hour as a caller gives them."""
    return [
        {"at": forecast.time_text(seasonal_model.EPOCH + timedelta(hours=hour)), "temperature": temperature}
        for hour, temperature in readings.items()
    ]


def started(state_of=None, **config):
    """A helper, or the next replica of one."""
    helper = forecast.Forecast()
    helper.config = config
    if state_of is None:
        helper.state.put(forecast.MODEL_KEY, FIRST)
    else:
        helper._state = state_of.state
        helper.data_version = state_of.data_version + 1
    helper.start()
    return helper


class Arithmetic(unittest.TestCase):
    def test_solves_what_is_known(self):
        matrix = [[4, 0, 0], [2, 5, 0], [1, 3, 6]]
        whole = [[matrix[max(a, b)][min(a, b)] for b in range(3)] for a in range(3)]
        wanted = [1.5, -2.0, 0.25]
        found = seasonal_model.solve(matrix, [seasonal_model.dot(row, wanted) for row in whole])
        for one, other in zip(found, wanted):
            self.assertAlmostEqual(one, other)

    def test_finds_the_coefficients_that_data_was_made_with(self):
        chance = random.Random(3)
        coefficients = [chance.uniform(-5, 5) for _ in range(seasonal_model.TERMS)]
        made = seasonal_model.SeasonalModel(coefficients, 0.0, 0.0)
        found = seasonal_model.fit({hour: made.season(hour) for hour in range(0, 8760, 3)}, {})
        for one, other in zip(found.coefficients, coefficients):
            self.assertAlmostEqual(one, other, places=6)

    def test_finds_how_long_deviations_last(self):
        chance = random.Random(4)
        deviations = {0: 0.0}
        for hour in range(1, 20_000):
            deviations[hour] = 0.8 * deviations[hour - 1] + chance.gauss(0, 1)
        self.assertAlmostEqual(seasonal_model.one_step_persistence(deviations), 0.8, delta=0.02)
        self.assertEqual(seasonal_model.one_step_persistence({}), 0.0)
        self.assertEqual(seasonal_model.one_step_persistence({1: 2.0, 5: 2.0}), 0.0)

    def test_a_deviation_dies_out_and_the_interval_widens_to_that_of_the_season(self):
        model = seasonal_model.SeasonalModel([50.0] + [0.0] * (seasonal_model.TERMS - 1), 0.9, 4.0, 100, 10.0)
        self.assertEqual(model.forecast(100), (50.0, 4.0))
        temperature, margin = model.forecast(101)
        self.assertAlmostEqual(temperature, 59.0)
        self.assertAlmostEqual(margin, 4.0 * math.sqrt(1 - 0.81))
        margins = [model.forecast(hour)[1] for hour in range(101, 200)]
        self.assertEqual(margins, sorted(margins))
        temperature, margin = model.forecast(400)
        self.assertAlmostEqual(temperature, 50.0, places=6)
        self.assertAlmostEqual(margin, 4.0, places=6)


class Accuracy(unittest.TestCase):
    def test_held_out_weeks_of_the_shipped_year(self):
        measured = evaluation.hold_out(SHIPPED, {})["shipped"]
        self.assertEqual(measured["hours"], 13 * evaluation.WEEK_HOURS)
        self.assertLess(measured["mean_absolute_error"], 0.5)
        self.assertLess(measured["mean_absolute_error"], measured["naive_mean_absolute_error"] / 3)
        self.assertTrue(0.85 < measured["share_within_interval"] < 0.95, measured)
        by_lead = measured["mean_absolute_error_by_lead_hours"]
        self.assertTrue(by_lead["1"] < by_lead["6"] < by_lead["24"] < measured["mean_absolute_error"], by_lead)

    def test_intervals_hold_for_weather_that_strays_more_than_the_shipped_year(self):
        measured = evaluation.hold_out(SHIPPED, weather(datetime(2025, 7, 1), 8760))["pushed"]
        self.assertTrue(0.8 < measured["share_within_interval"] < 0.97, measured)
        by_lead = measured["mean_absolute_error_by_lead_hours"]
        self.assertLess(by_lead["1"], measured["mean_absolute_error"] / 2)

    def test_share_of_later_readings_between_low_and_high_so_many_hours_ahead(self):
        readings = weather(datetime(2025, 7, 1), 4000)
        hours = sorted(readings)
        model = seasonal_model.fit(SHIPPED, {hour: readings[hour] for hour in hours[:2000]})
        for lead in (1, 6, 24):
            within = []
            for hour in hours[2000:-lead]:
                model.newest_hour, model.deviation = hour, readings[hour] - model.season(hour)
                temperature, margin = model.forecast(hour + lead)
                within.append(abs(readings[hour + lead] - temperature) <= margin)
            self.assertTrue(0.84 < evaluation.mean(within) < 0.96, (lead, evaluation.mean(within)))


class KeptReadings(unittest.TestCase):
    def setUp(self):
        self.state = forecast.Forecast().state
        self.readings = Readings(self.state)

    def test_an_hour_has_the_reading_of_the_last_push(self):
        self.assertEqual(self.readings.push({5000: 50.0, 5001: 51.0}), 1)
        self.assertEqual(self.readings.push({5001: 52.0, 9000: 40.0}), 2)
        expected = {5000: 50.0, 5001: 52.0, 9000: 40.0}
        self.assertEqual(self.readings.gather(100), expected)
        self.assertEqual(self.readings.gather(100), expected)
        self.assertEqual(self.readings.push({5000: 53.0}), 1)
        self.assertEqual(self.readings.gather(100), {**expected, 5000: 53.0})

    def test_the_oldest_go_in_whatever_order_they_came(self):
        chance = random.Random(8)
        hours = list(range(150_000, 153_000))
        chance.shuffle(hours)
        for place in range(0, len(hours), 500):
            self.readings.push({hour: 50.0 for hour in hours[place : place + 500]})
            self.readings.gather(1000)
        self.assertEqual(sorted(self.readings.gather(1000)), list(range(152_000, 153_000)))
        self.assertEqual(self.state.list(), ["months/2027-05", "months/2027-06"])

    def test_pushes_that_wait_have_a_limit(self):
        for hour in range(WAITING_MAX):
            self.readings.push({hour: 50.0})
        with self.assertRaisesRegex(RuntimeError, "200 pushes wait"):
            self.readings.push({1000: 50.0})
        self.assertEqual(len(self.readings.gather(1000)), WAITING_MAX)
        self.assertEqual(self.readings.push({1000: 50.0}), 1)


class Methods(unittest.TestCase):
    def setUp(self):
        clock = mock.patch.object(forecast, "now", lambda: NOW)
        clock.start()
        self.addCleanup(clock.stop)

    def test_predict(self):
        answer = started().predict("2026-07-02T15:00")
        self.assertTrue(answer["low"] < answer["temperature"] < answer["high"])
        self.assertTrue(70 < answer["temperature"] < 76, answer)
        self.assertEqual((answer["at"], answer["unit"]), ("2026-07-02T15:00", "fahrenheit"))
        rests_on = {"shipped_hours": 8759, "pushed_hours": 0, "newest_pushed": None, "data_version": 1}
        self.assertEqual(answer["rests_on"], rests_on)

    def test_times_of_every_form(self):
        helper = started()
        expected = helper.predict("2026-07-02T15:00")
        for same in ("2026-07-02T23:00Z", "2026-07-02T23:00:00.000Z", "2026-07-02T16:00-07:00", "2026-07-02 15:00"):
            self.assertEqual(helper.predict(same), expected, same)
        self.assertNotEqual(helper.predict("2026-07-02T15:30")["temperature"], expected["temperature"])
        for wrong in ("", "now", "2026-13-01T00:00", "Z", "0001-01-01T00:00+09:00", 7, None):
            with self.subTest(wrong), self.assertRaises(WrongArguments):
                helper.predict(wrong)

    def test_day(self):
        helper = started()
        answer = helper.day("2026-01-15")
        self.assertEqual([hour["at"][11:] for hour in answer["hourly"]], [f"{hour:02}:00" for hour in range(24)])
        temperatures = [hour["temperature"] for hour in answer["hourly"]]
        self.assertEqual((answer["min"], answer["max"]), (min(temperatures), max(temperatures)))
        self.assertEqual(temperatures[9], helper.predict("2026-01-15T09:00")["temperature"])
        for wrong in ("2026-02-30", "today", 7, None):
            with self.subTest(wrong), self.assertRaises(WrongArguments):
                helper.day(wrong)

    def test_climate_is_near_the_means_of_the_shipped_year(self):
        helper = started()
        means = evaluation.naive_means(SHIPPED)
        for month in range(1, 13):
            answer = helper.climate(month)
            self.assertTrue(answer["daily_min"] < answer["mean"] < answer["daily_max"])
            for hour, usual in enumerate(answer["by_hour"]):
                self.assertAlmostEqual(usual, means[month, hour], delta=2.0)
        for wrong in (0, 13, "1", True, None):
            with self.subTest(wrong), self.assertRaises(WrongArguments):
                helper.climate(wrong)

    def test_observe_counts_hours(self):
        helper = started()
        readings = pushed(weather(NOW - timedelta(hours=30), 30))
        self.assertEqual(helper.observe(readings), {"count": 30, "waiting_pushes": 1})
        self.assertEqual(helper.observe(readings), {"count": 30, "waiting_pushes": 2})
        same_hour = [{"at": f"2026-07-02T11:{minute}", "temperature": 60} for minute in (10, 59)]
        self.assertEqual(helper.observe(same_hour), {"count": 1, "waiting_pushes": 3})
        self.assertEqual(helper.train()["pushed_hours"], 30)

    def test_observe_refuses_nonsense_and_keeps_none_of_it(self):
        helper = started()
        good = {"at": "2026-07-01T12:00", "temperature": 70}
        for wrong, message in (
            ([], "1 to 1000"),
            ([good] * 1001, "1 to 1000"),
            ("70", "1 to 1000"),
            ([good, {"at": "2026-07-01T12:00"}], "readings[1]"),
            ([{**good, "where": "Seattle"}], "alone"),
            ([{**good, "at": "noon"}], "readings[0].at"),
            ([{**good, "at": "2026-07-02T14:00"}], "until now"),
            ([{**good, "at": "2010-07-02T14:00"}], "from 2011-01-01"),
            ([good, {**good, "temperature": 200}], "-20.0 to 125.0 degrees Fahrenheit"),
            ([{**good, "temperature": -40}], "impossible"),
            ([{**good, "temperature": math.nan}], "impossible"),
            ([{**good, "temperature": "70"}], "a number"),
            ([{**good, "temperature": True}], "a number"),
        ):
            with self.subTest(message), self.assertRaises(WrongArguments) as caught:
                helper.observe(wrong)
            self.assertIn(message, str(caught.exception))
        self.assertEqual(helper.observe([good]), {"count": 1, "waiting_pushes": 1})

    def test_candidates_are_calls_that_can_be_made(self):
        helper = started(horizon_hours=24)
        candidates = list(helper.candidates())
        self.assertEqual(candidates[0], ("predict", {"at": "2026-07-02T12:00"}))
        self.assertEqual(candidates[-1], ("day", {"date": "2026-07-03"}))
        self.assertEqual(len(candidates), 27)
        for name, arguments in candidates:
            getattr(helper, name)(**arguments)
        self.assertLess(len(list(started(horizon_hours=168).candidates())), 200)


class Training(unittest.TestCase):
    def setUp(self):
        clock = mock.patch.object(forecast, "now", lambda: NOW)
        clock.start()
        self.addCleanup(clock.stop)

    def test_what_was_observed_changes_answers_after_training_alone(self):
        helper = started()
        soon = "2026-07-02T15:00"
        before = helper.predict(soon)
        readings = weather(NOW - timedelta(hours=500), 500, warmer=9.0)
        helper.observe(pushed(readings))
        self.assertEqual(helper.predict(soon), before)
        self.assertEqual(started(state_of=helper).predict(soon)["temperature"], before["temperature"])

        summary = helper.train()
        self.assertEqual((summary["pushed_hours"], summary["measured_on"]), (500, "pushed"))
        self.assertLess(summary["error_after"], summary["error_before"])
        after = started(state_of=helper).predict(soon)
        self.assertGreater(after["temperature"], before["temperature"] + 3)
        self.assertGreater(after["high"] - after["low"], before["high"] - before["low"])
        newest = forecast.time_text(seasonal_model.EPOCH + timedelta(hours=max(readings)))
        rests_on = {"shipped_hours": 8759, "pushed_hours": 500, "newest_pushed": newest, "data_version": 2}
        self.assertEqual(after["rests_on"], rests_on)

    def test_a_replica_starts_without_the_data_once_there_is_a_model(self):
        helper = started()
        helper.train()
        with mock.patch.object(forecast, "load_shipped", side_effect=AssertionError):
            answer = started(state_of=helper).predict("2026-07-02T15:00")
        self.assertEqual(answer["temperature"], helper.predict("2026-07-02T15:00")["temperature"])

    def test_the_first_replica_learns_from_the_shipped_data(self):
        helper = forecast.Forecast()
        helper.start()
        self.assertEqual(helper.learned, FIRST)

    def test_a_model_of_other_terms_is_made_anew(self):
        helper = forecast.Forecast()
        helper.state.put(forecast.MODEL_KEY, {"model": {"coefficients": [50.0]}})
        helper.start()
        self.assertEqual(helper.learned, FIRST)

    def test_training_keeps_no_more_than_configured(self):
        helper = started(kept_readings=24)
        helper.observe(pushed(weather(NOW - timedelta(hours=30), 30)))
        self.assertEqual(helper.train()["pushed_hours"], 24)

    def test_training_without_new_readings_changes_nothing(self):
        helper = started()
        self.assertIs(helper.train(), False)
        helper.observe(pushed(weather(NOW - timedelta(hours=24), 24)))
        self.assertEqual(helper.train()["pushed_hours"], 24)
        self.assertIs(helper.train(), False)

    def test_accuracy_tells_of_both_sources(self):
        helper = started()
        self.assertIsNone(helper.accuracy()["held_out"]["pushed"])
        helper.observe(pushed(weather(NOW - timedelta(hours=900), 900)))
        helper.train()
        held_out = started(state_of=helper).accuracy()["held_out"]
        self.assertGreater(held_out["pushed"]["hours"], 100)
        self.assertLess(held_out["shipped"]["mean_absolute_error"], held_out["shipped"]["naive_mean_absolute_error"])

    def test_celsius_in_and_out(self):
        fahrenheit, celsius = started(), started(unit="celsius")
        one, other = (helper.predict("2026-07-02T15:00") for helper in (fahrenheit, celsius))
        self.assertAlmostEqual(one["temperature"], other["temperature"] * 9 / 5 + 32, delta=0.02)
        self.assertEqual(other["unit"], "celsius")
        fahrenheit.observe([{"at": "2026-07-02T11:00", "temperature": 68.0}])
        celsius.observe([{"at": "2026-07-02T11:00", "temperature": 20.0}])
        kept = [Readings(helper.state).gather(10) for helper in (fahrenheit, celsius)]
        self.assertEqual(kept[0], kept[1])
        self.assertEqual(list(kept[0].values()), [68.0])
        with self.assertRaisesRegex(WrongArguments, "degrees Celsius"):
            celsius.observe([{"at": "2026-07-02T11:00", "temperature": 68.0}])
        ratio = fahrenheit.accuracy()["interval"] / celsius.accuracy()["interval"]
        self.assertAlmostEqual(ratio, 9 / 5, delta=0.01)


if __name__ == "__main__":
    unittest.main()
