"""Forecasts of Seattle's temperature, from a model that is trained again and again as new readings are pushed.

Owns the methods, what arguments mean and what leaves in which unit; the arithmetic is in `seasonal_model`, `evaluation` and
`readings`. Between two trainings every answer depends on its arguments and the configuration alone: what `observe` keeps
changes no answer until `train` has made a new model of it, with which the platform counts a new data version. So answers
can be kept for long, and never outlive the model that they come from.

Times are Pacific Standard Time all year round, as in the shipped data: a time with an offset from UTC is converted, one
without is taken as it is.
"""

import calendar
import csv
import math
import os
from datetime import date, datetime, timedelta, timezone

from raas import Helper, WrongArguments, method

import evaluation
from readings import Readings
from seasonal_model import DAY_HOURS, EPOCH, INTERVAL_SHARE, TERMS, SeasonalModel, fit

STANDARD_TIME = timezone(timedelta(hours=-8))
HOUR = timedelta(hours=1)
SHIPPED_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seattle-temps.csv")
MODEL_KEY = "model"
READINGS_PER_CALL_MAX = 1000
# Seattle has known 0 to 108 degrees Fahrenheit; beyond this a thermometer is broken, or the unit is another.
POSSIBLE_FAHRENHEIT = (-20.0, 125.0)
# The shipped year has its own readings, and later than this a clock is wrong.
OBSERVED_FROM = datetime(2011, 1, 1)
CLOCK_TOLERANCE = HOUR
HORIZON_HOURS = 48
KEPT_READINGS = 8760


def now():
    return datetime.now(STANDARD_TIME).replace(tzinfo=None)


def parse_time(text, name):
    """A time of Pacific Standard Time."""
    try:
        # Before Python 3.11 the letter is not understood.
        time = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        return time if time.tzinfo is None else time.astimezone(STANDARD_TIME).replace(tzinfo=None)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise WrongArguments(f'"{name}" has to be a time such as "2026-11-25T14:00", not {text!r}') from None


def parse_date(text):
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        raise WrongArguments(f'"date" has to be a date such as "2026-11-25", not {text!r}') from None


def hour_of(time):
    return (time - EPOCH) / HOUR


def time_text(time):
    return time.isoformat(timespec="minutes")


def load_shipped():
    """Temperatures by hour of the shipped year."""
    with open(SHIPPED_PATH, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {int(hour_of(datetime.strptime(row["date"], "%Y/%m/%d %H:%M"))): float(row["temp"]) for row in rows}


def learn(shipped, pushed):
    """All that a replica needs to answer, as it is kept in the state."""
    return {
        "model": vars(fit(shipped, pushed)),
        "accuracy": evaluation.hold_out(shipped, pushed),
        "shipped_hours": len(shipped),
        "pushed_hours": len(pushed),
    }


class Forecast(Helper):
    """What the temperature will be, or usually is."""

    def start(self):
        learned = self.state.get(MODEL_KEY)
        # Another version of this helper may have left a model of other terms.
        if learned is None or len(learned["model"]["coefficients"]) != TERMS:
            # Not with what was pushed: all replicas of a data version have to answer alike, whenever they start.
            learned = learn(load_shipped(), {})
        self.learned = learned
        self.model = SeasonalModel(**learned["model"])

    @method
    def predict(self, at):
        """The temperature to expect at a time, between which bounds, and what that rests on."""
        return {**self._forecast(parse_time(at, "at")), "unit": self._unit(), "rests_on": self._rests_on()}

    @method
    def day(self, date):
        """The forecast of a date by the hour."""
        midnight = datetime.combine(parse_date(date), datetime.min.time())
        hourly = [self._forecast(midnight + hour * HOUR) for hour in range(DAY_HOURS)]
        temperatures = [hour["temperature"] for hour in hourly]
        return {
            "date": midnight.date().isoformat(),
            "hourly": hourly,
            "min": min(temperatures),
            "max": max(temperatures),
            "unit": self._unit(),
            "rests_on": self._rests_on(),
        }

    @method
    def climate(self, month):
        """What is usual in a month, whatever the newest readings are."""
        if isinstance(month, bool) or not isinstance(month, int) or not 1 <= month <= 12:
            raise WrongArguments(f'"month" has to be a number from 1 to 12, not {month!r}')
        begin = hour_of(datetime(EPOCH.year, month, 1))
        _, days = calendar.monthrange(EPOCH.year, month)
        seasons = [[self.model.season(begin + day * DAY_HOURS + hour) for hour in range(DAY_HOURS)] for day in range(days)]
        return {
            "month": month,
            "mean": self._in_unit(evaluation.mean(map(evaluation.mean, seasons))),
            "daily_min": self._in_unit(evaluation.mean(map(min, seasons))),
            "daily_max": self._in_unit(evaluation.mean(map(max, seasons))),
            "by_hour": [self._in_unit(evaluation.mean(hours)) for hours in zip(*seasons)],
            "unit": self._unit(),
            "rests_on": self._rests_on(),
        }

    @method
    def observe(self, readings):
        """Keeps readings for the next training; of each hour the last that was pushed. Counts the hours."""
        if not isinstance(readings, list) or not 1 <= len(readings) <= READINGS_PER_CALL_MAX:
            raise WrongArguments(f'"readings" has to be a list of 1 to {READINGS_PER_CALL_MAX} readings')
        latest = now() + CLOCK_TOLERANCE
        temperatures = dict(self._reading(place, reading, latest) for place, reading in enumerate(readings))
        return {"count": len(temperatures), "waiting_pushes": Readings(self.state).push(temperatures)}

    @method
    def accuracy(self):
        """Errors of the present model, in degrees of the instance's unit, on hours that were held out."""
        sources = self.learned["accuracy"].items()
        return {
            "held_out": {source: measured and self._errors_in_unit(measured) for source, measured in sources},
            "interval_share": INTERVAL_SHARE,
            "interval": self._difference_in_unit(self.model.spread),
            "persistence": round(self.model.persistence, 4),
            "unit": self._unit(),
            "rests_on": self._rests_on(),
        }

    def candidates(self):
        """The coming hours and the days that these are of, as callers write them."""
        first = now().replace(minute=0, second=0, microsecond=0)
        times = [first + hour * HOUR for hour in range(self.config.get("horizon_hours", HORIZON_HOURS) + 1)]
        for time in times:
            yield "predict", {"at": time_text(time)}
        for day in sorted({time.date() for time in times}):
            yield "day", {"date": day.isoformat()}

    def train(self):
        """Makes the model anew of the shipped year and the newest of all pushed readings, where there are new ones."""
        readings = Readings(self.state)
        if self.state.get(MODEL_KEY) is not None and not readings.are_waiting():
            return False  # the same model again: answers that are kept stay
        pushed = readings.gather(self.config.get("kept_readings", KEPT_READINGS))
        shipped = load_shipped()
        learned = learn(shipped, pushed)
        self.state.put(MODEL_KEY, learned)
        measured_on = pushed or shipped
        return {
            "shipped_hours": len(shipped),
            "pushed_hours": len(pushed),
            "measured_on": "pushed" if pushed else "shipped",
            "error_before": self._error(self.model, measured_on),
            "error_after": self._error(SeasonalModel(**learned["model"]), measured_on),
            "unit": self._unit(),
        }

    def _forecast(self, time):
        temperature, margin = self.model.forecast(hour_of(time))
        return {
            "at": time_text(time),
            "temperature": self._in_unit(temperature),
            "low": self._in_unit(temperature - margin),
            "high": self._in_unit(temperature + margin),
        }

    def _rests_on(self):
        newest_hour = self.model.newest_hour
        return {
            "shipped_hours": self.learned["shipped_hours"],
            "pushed_hours": self.learned["pushed_hours"],
            "newest_pushed": None if newest_hour is None else time_text(EPOCH + newest_hour * HOUR),
            "data_version": self.data_version,
        }

    def _reading(self, place, reading, latest):
        """The hour and the temperature in degrees Fahrenheit of what was pushed."""
        name = f"readings[{place}]"
        if not isinstance(reading, dict) or reading.keys() != {"at", "temperature"}:
            raise WrongArguments(f'"{name}" has to be an object with "at" and "temperature" alone')
        time, temperature = parse_time(reading["at"], f"{name}.at"), reading["temperature"]
        if not OBSERVED_FROM <= time <= latest:
            since, given = OBSERVED_FROM.date(), time_text(time)
            raise WrongArguments(f'"{name}.at" has to be from {since} until now, not {given} Pacific Standard Time')
        if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
            raise WrongArguments(f'"{name}.temperature" has to be a number')
        fahrenheit = temperature * 9 / 5 + 32 if self._unit() == "celsius" else temperature
        coldest, hottest = POSSIBLE_FAHRENHEIT
        if not coldest <= fahrenheit <= hottest:
            possible = f"{self._in_unit(coldest)} to {self._in_unit(hottest)} degrees {self._unit().capitalize()}"
            raise WrongArguments(f'"{name}.temperature", {temperature}, is impossible in Seattle: not within {possible}')
        return math.floor(hour_of(time)), round(float(fahrenheit), 2)

    def _error(self, model, readings):
        """How far from readings the season is, the mean of absolute values."""
        return self._difference_in_unit(evaluation.mean(map(abs, model.deviations(readings).values())))

    def _unit(self):
        return self.config.get("unit", "fahrenheit")

    def _in_unit(self, fahrenheit):
        """A temperature as callers get it."""
        return round((fahrenheit - 32) * 5 / 9 if self._unit() == "celsius" else fahrenheit, 2)

    def _difference_in_unit(self, fahrenheit):
        return round(fahrenheit * 5 / 9 if self._unit() == "celsius" else fahrenheit, 3)

    def _errors_in_unit(self, measured):
        """What was measured, with its errors in the instance's unit."""
        given = dict(measured)
        for key in ("mean_absolute_error", "root_mean_square_error", "naive_mean_absolute_error"):
            given[key] = self._difference_in_unit(measured[key])
        given["share_within_interval"] = round(measured["share_within_interval"], 3)
        by_lead = measured["mean_absolute_error_by_lead_hours"].items()
        given["mean_absolute_error_by_lead_hours"] = {
            lead: None if error is None else self._difference_in_unit(error) for lead, error in by_lead
        }
        return given
