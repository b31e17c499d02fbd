"""INIT's `check`: what is different in a run whose results are compared with those of another run.

Owns the reading of that part of INIT. Is only imported where INIT has it, and runs before any of the function's code does.
"""

from zoneinfo import ZoneInfo

from .shifted_clock import shift_clocks


class InvalidCheck(Exception):
    """INIT's `check` asks for what this runtime or this machine cannot do."""


def prepare_check(settings):
    """Sets up time zone and clocks; the zone goes into INIT's variables, over one that the function declares."""
    check = settings["check"]
    zone = check.get("time_zone")
    if zone is not None:
        settings["env"] = {**settings["env"], "TZ": known_zone(zone)}
    shift_s = check.get("clock_shift_s")
    if shift_s is not None:
        if type(shift_s) is not int:
            raise InvalidCheck(f"clock_shift_s is a whole number of seconds, not {shift_s!r}")
        if not shift_clocks(shift_s):
            raise InvalidCheck("this interpreter does not let the clock of the datetime module be shifted")


def known_zone(zone):
    """The name of a zone. The C library takes one that it does not know for UTC, and says nothing."""
    try:
        # Leaves nothing in the cache that the function could see.
        ZoneInfo.no_cache(zone)
    except Exception as error:
        raise InvalidCheck(f"time_zone {zone!r} is not known here: {error}") from None
    return zone
