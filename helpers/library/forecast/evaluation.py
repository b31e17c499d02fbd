"""How good the model is: fitted to three weeks of four, measured on the fourth, beside the naive answer.

Owns what counts as held out and what is measured. Whole weeks are held out, because the hours next to an hour that was
fitted would flatter the model. The naive answer is the mean of the fitted hours of the same month and time of day.
"""

import math
from datetime import timedelta

from seasonal_model import DAY_HOURS, EPOCH, fit

WEEK_HOURS = 7 * DAY_HOURS
HELD_OUT_WEEK_OF = 4
# For these hours after a reading that is known, its deviation from the season is carried on.
LEADS_HOURS = (1, 6, 24)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def split(readings):
    """Those to fit to, and those that are held out."""
    fitted, held_out = {}, {}
    for hour, temperature in readings.items():
        last = hour // WEEK_HOURS % HELD_OUT_WEEK_OF == HELD_OUT_WEEK_OF - 1
        (held_out if last else fitted)[hour] = temperature
    return fitted, held_out


def season_cell(hour):
    """The month and the time of day."""
    time = EPOCH + timedelta(hours=hour)
    return time.month, time.hour


def naive_means(readings):
    cells = {}
    for hour, temperature in readings.items():
        cells.setdefault(season_cell(hour), []).append(temperature)
    return {cell: mean(temperatures) for cell, temperatures in cells.items()}


def measure(model, naive, held_out):
    """Errors of one source of readings; None where none of it is held out."""
    if not held_out:
        return None
    deviations = model.deviations(held_out)
    by_lead = {}
    for lead in LEADS_HOURS:
        left = model.persistence**lead
        errors = [abs(now - left * deviations[hour - lead]) for hour, now in deviations.items() if hour - lead in deviations]
        by_lead[str(lead)] = mean(errors) if errors else None
    return {
        "hours": len(held_out),
        "mean_absolute_error": mean(map(abs, deviations.values())),
        "root_mean_square_error": math.sqrt(mean(deviation**2 for deviation in deviations.values())),
        "naive_mean_absolute_error": mean(abs(held_out[hour] - naive[season_cell(hour)]) for hour in held_out),
        "share_within_interval": mean(abs(deviation) <= model.spread for deviation in deviations.values()),
        "mean_absolute_error_by_lead_hours": by_lead,
    }


def hold_out(shipped, pushed):
    """What `measure` says of both sources, by the model and the means of those hours of both that are not held out."""
    shipped_fitted, shipped_held_out = split(shipped)
    pushed_fitted, pushed_held_out = split(pushed)
    model = fit(shipped_fitted, pushed_fitted)
    naive = naive_means({**shipped_fitted, **pushed_fitted})
    return {"shipped": measure(model, naive, shipped_held_out), "pushed": measure(model, naive, pushed_held_out)}
