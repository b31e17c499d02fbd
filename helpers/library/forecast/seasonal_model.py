"""The temperature by the hour: what is usual for the season and the time of day, and how long a deviation from it lasts.

Owns the arithmetic and nothing else: hours in, degrees out, no clock, no state, no units. An hour is counted from `EPOCH`.

The season is a regression on harmonics of the year and of the day and on their products, as the daily swing is itself
seasonal; its errors are taken as an autoregression of order 1 (dynamic harmonic regression: Hyndman and Athanasopoulos,
Forecasting: Principles and Practice, 3rd edition, 10.5). Coefficients are least squares by the normal equations and their
Cholesky factors (Golub and Van Loan, Matrix Computations, 4th edition, 5.3.2).
"""

import math
from datetime import datetime
from operator import mul

EPOCH = datetime(2010, 1, 1)
DAY_HOURS = 24
YEAR_HOURS = 365.2425 * DAY_HOURS
ANNUAL_HARMONICS = 2
DAILY_HARMONICS = 3
# The share of readings that is meant to lie between low and high.
INTERVAL_SHARE = 0.9
# With fewer pushed readings than a day has, how far readings stray is told by the shipped year instead.
PUSHED_MIN = DAY_HOURS
# A deviation dies out, whatever few readings say: half of it is gone after at most 69 hours.
PERSISTENCE_MAX = 0.99


def dot(left, right):
    return sum(map(mul, left, right))


def harmonics(phase, count):
    """1, and the cosines and sines of the first multiples of an angle."""
    waves = [1.0]
    for multiple in range(1, count + 1):
        waves += (math.cos(multiple * phase), math.sin(multiple * phase))
    return waves


def terms(hour):
    """What the coefficients are multiplied with."""
    annual = harmonics(2 * math.pi * hour / YEAR_HOURS, ANNUAL_HARMONICS)
    daily = harmonics(2 * math.pi * hour / DAY_HOURS, DAILY_HARMONICS)
    return [season * time for season in annual for time in daily]


TERMS = len(terms(0))


def solve(matrix, right):
    """The x with `matrix` x = `right`, for a symmetric positive definite matrix of which the lower half is read."""
    factor = []
    for row in range(len(matrix)):
        line = []
        for column in range(row + 1):
            above = line if column == row else factor[column]
            rest = matrix[row][column] - dot(line, above)
            line.append(math.sqrt(rest) if column == row else rest / above[column])
        factor.append(line)
    found = []
    for line, value in zip(factor, right):
        found.append((value - dot(line, found)) / line[-1])
    for row in reversed(range(len(matrix))):
        below = sum(factor[other][row] * found[other] for other in range(row + 1, len(matrix)))
        found[row] = (found[row] - below) / factor[row][row]
    return found


def least_squares(rows, values):
    """The coefficients with which the rows come closest to the values."""
    columns = list(zip(*rows))
    matrix = [[dot(column, other) for other in columns[: place + 1]] for place, column in enumerate(columns)]
    return solve(matrix, [dot(column, values) for column in columns])


def one_step_persistence(deviations):
    """Which part of a deviation is left an hour later: the regression of each on the one before it."""
    pairs = [(deviations[hour - 1], now) for hour, now in deviations.items() if hour - 1 in deviations]
    squares = sum(before * before for before, _ in pairs)
    if not squares:
        return 0.0
    return min(PERSISTENCE_MAX, max(0.0, sum(before * now for before, now in pairs) / squares))


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class SeasonalModel:
    """What is kept of the data: some numbers, from which every hour's temperature is computed."""

    def __init__(self, coefficients, persistence, spread, newest_hour=None, deviation=0.0):
        self.coefficients = coefficients
        #: Which part of a deviation is left an hour later.
        self.persistence = persistence
        #: How far from the season a reading is at most, in `INTERVAL_SHARE` of the hours.
        self.spread = spread
        #: The newest pushed reading's hour, and how far from the season it was.
        self.newest_hour = newest_hour
        self.deviation = deviation

    def season(self, hour):
        """What is usual."""
        return dot(self.coefficients, terms(hour))

    def deviations(self, readings):
        """How far from what is usual temperatures are, by hour."""
        return {hour: temperature - self.season(hour) for hour, temperature in readings.items()}

    def forecast(self, hour):
        """The temperature to expect, and how far from it a reading will be at most in `INTERVAL_SHARE` of the cases.

        What has been, up to the newest reading, is answered from the season alone.
        """
        season = self.season(hour)
        if self.newest_hour is None or hour <= self.newest_hour:
            return season, self.spread
        left = self.persistence ** (hour - self.newest_hour)
        # The variance of an autoregression of order 1 this long after a value that is known.
        return season + left * self.deviation, self.spread * math.sqrt(1 - left * left)


def fit(shipped, pushed):
    """The model of temperatures by hour: those of the shipped year, and those that were pushed, which may be none."""
    hours = [*shipped, *pushed]
    rows = [terms(hour) for hour in hours]
    coefficients = least_squares(rows, [*shipped.values(), *pushed.values()])
    # The shipped year is smoother than weather is: how far that strays is told by what was pushed, as soon as it can.
    straying = pushed if len(pushed) >= PUSHED_MIN else shipped
    model = SeasonalModel(coefficients, 0.0, 0.0)
    deviations = model.deviations(straying)
    model.persistence = one_step_persistence(deviations)
    model.spread = quantile(map(abs, deviations.values()), INTERVAL_SHARE)
    if pushed:
        model.newest_hour = max(pushed)
        model.deviation = pushed[model.newest_hour] - model.season(model.newest_hour)
    return model
