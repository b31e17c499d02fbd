"""The decision, and every way in which the forecast cannot be had, with a helper that is made up."""

import unittest

from raas import HelperError

import main


class FakeContext:
    """A context whose helper answers with one forecast, or raises."""

    def __init__(self, low=None, unit="fahrenheit", error=None):
        self.low, self.unit, self.error = low, unit, error

    def helper(self, name):
        if name != "forecast":
            raise AssertionError(name)
        return self

    def predict(self, at):
        if self.error is not None:
            raise self.error
        return {"at": at, "temperature": self.low + 2, "low": self.low, "high": self.low + 4, "unit": self.unit}


EVENT = {"at": "2026-11-25T14:00"}


class Coat(unittest.TestCase):
    def test_the_coldest_decides_in_either_unit(self):
        for low, unit, coat in (
            (54.9, "fahrenheit", True),
            (55.0, "fahrenheit", False),
            (12.9, "celsius", True),
            (13.0, "celsius", False),
        ):
            with self.subTest(low=low, unit=unit):
                answer = main.handler(EVENT, FakeContext(low, unit))
                self.assertIs(answer["coat"], coat)
                self.assertEqual(answer["at"], EVENT["at"])
                self.assertEqual(answer["forecast"]["low"], low)
                self.assertIn(f"{low:g}", answer["because"])

    def test_without_a_forecast_the_coat_is_taken(self):
        error = HelperError("no replica is free", code="no-capacity", retryable=True)
        answer = main.handler(EVENT, FakeContext(error=error))
        because = "there is no forecast: no-capacity"
        self.assertEqual(answer, {"at": EVENT["at"], "coat": True, "because": because, "forecast": None})

    def test_a_time_that_is_none_is_the_callers_mistake(self):
        error = HelperError('"at" has to be a time', code="wrong-arguments", origin="caller")
        with self.assertRaisesRegex(ValueError, "has to be a time"):
            main.handler({"at": "soon"}, FakeContext(error=error))
        for wrong in (None, [], {}, {"at": 7}):
            with self.subTest(wrong), self.assertRaisesRegex(ValueError, "has to be an object"):
                main.handler(wrong, FakeContext(60.0))


if __name__ == "__main__":
    unittest.main()
