"""The readings that were pushed: which are kept, and how they lie in the helper's state.

A push is one value of its own, `waiting/…`, so that pushes at once, in whichever replicas, never overwrite one another.
Training, of which there is one at a time, gathers what waits into `months/…`, one value a month: no value grows without
end, and a training rewrites little. Temperatures are in degrees Fahrenheit, by hour.
"""

import secrets
import time
from datetime import timedelta

from seasonal_model import EPOCH

WAITING_PREFIX = "waiting/"
# With the months, what one training writes stays below the 1,000 writes of a commit.
WAITING_MAX = 200
MONTHS_PREFIX = "months/"
MONTHS_MAX = 1000


def month_key(hour):
    return MONTHS_PREFIX + (EPOCH + timedelta(hours=hour)).strftime("%Y-%m")


class Readings:
    """Temperatures by hour; an hour has one, that of the last push."""

    def __init__(self, state):
        self.state = state

    def push(self, readings):
        """Keeps temperatures by hour until the next training gathers them. Returns how many pushes wait for it."""
        waiting = len(self.state.list(WAITING_PREFIX, limit=WAITING_MAX))
        if waiting == WAITING_MAX:
            raise RuntimeError(f"{WAITING_MAX} pushes wait for the next training: push more readings at once")
        # In the order of their keys later pushes come later; the random part tells those of one moment apart.
        self.state.put(f"{WAITING_PREFIX}{time.time_ns():020}-{secrets.token_hex(4)}", readings)
        return waiting + 1

    def are_waiting(self):
        return bool(self.state.list(WAITING_PREFIX, limit=1))

    def gather(self, kept_max):
        """The newest `kept_max` of what is kept and what waited, by hour; from now on they are what is kept."""
        kept = {key: self._value(key) for key in self.state.list(MONTHS_PREFIX, limit=MONTHS_MAX)}
        readings = {hour: temperature for month in kept.values() for hour, temperature in month.items()}
        for key in self.state.list(WAITING_PREFIX, limit=WAITING_MAX):
            readings.update(self._value(key))
            self.state.delete(key)
        readings = {hour: readings[hour] for hour in sorted(readings)[-kept_max:]}
        months = {}
        for hour, temperature in readings.items():
            months.setdefault(month_key(hour), {})[hour] = temperature
        for key in kept.keys() - months.keys():
            self.state.delete(key)
        for key, month in months.items():
            if month != kept.get(key):
                self.state.put(key, month)
        return readings

    def _value(self, key):
        """JSON has only text as a key."""
        return {int(hour): temperature for hour, temperature in self.state.get(key, {}).items()}
