"""A process whose clocks and time zone are wrong on purpose, so that code that looks at them gives itself away.

Owns what the code of a function sees of the time; imported only where INIT has `check`. What the runtime itself goes by
(deadlines, its own measurements) it took from `time` before, so it keeps the real clocks. Not shifted: clocks that native
extensions and children read themselves, times of files, CPU time.
"""

import ctypes
import datetime
import gc
import time

NANOSECONDS = 1_000_000_000
# Clocks that only count: further off by this than the wall clock, so that neither can be told from the other.
COUNTER_FACTOR = 2
COUNTER_OFFSET_S = 86_413
WALL_CLOCKS = ("CLOCK_REALTIME", "CLOCK_TAI")
COUNTING_CLOCKS = ("CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_BOOTTIME", "CLOCK_UPTIME", "CLOCK_UPTIME_RAW")


class ClockNotShifted(Exception):
    """This interpreter does not let its clocks be replaced; a check would prove nothing."""


class Function:
    """Stands for a function of `time`. Unlike a Python function it is not bound where code makes it a class attribute."""

    def __init__(self, replaced, call):
        self.__name__ = self.__qualname__ = replaced.__name__
        self.__doc__ = replaced.__doc__
        self.__module__ = "time"
        self._call = call

    def __call__(self, *arguments, **named):
        return self._call(*arguments, **named)

    def __repr__(self):
        return f"<built-in function {self.__name__}>"

    def __reduce__(self):
        return self.__name__


def prepare(settings):
    """Makes the process what INIT's `check` says. `settings` are INIT's; the time zone goes into their `env`."""
    check = settings["check"]
    zone = check.get("time_zone")
    if zone is not None:
        # Where the function's own variables are set, so that it wins over one of them.
        settings["env"] = {**settings["env"], "TZ": zone}
    shift_s = int(check.get("clock_shift_s", 0))
    if shift_s:
        shift_clocks(shift_s)


def shift_clocks(shift_s):
    """Shifts the wall clock by `shift_s` and the counting clocks by another constant, which keeps them positive."""
    counter_s = abs(shift_s) * COUNTER_FACTOR + COUNTER_OFFSET_S
    for name in ("monotonic", "perf_counter"):
        shift_reading(name, counter_s)
    shift_reading("time", shift_s)
    by_clock = {getattr(time, name): shift_s for name in WALL_CLOCKS if hasattr(time, name)}
    by_clock.update((getattr(time, name), counter_s) for name in COUNTING_CLOCKS if hasattr(time, name))
    shift_clock_gettime(by_clock)
    shift_conversions()
    shift_dates(time.time)


def replace(name, call):
    setattr(time, name, Function(getattr(time, name), call))


def shift_reading(name, shift_s):
    """`name` and its sibling that counts nanoseconds."""
    real, real_ns, shift_ns = getattr(time, name), getattr(time, name + "_ns"), shift_s * NANOSECONDS
    replace(name, lambda: real() + shift_s)
    replace(name + "_ns", lambda: real_ns() + shift_ns)


def shift_clock_gettime(by_clock):
    real, real_ns = time.clock_gettime, time.clock_gettime_ns
    replace("clock_gettime", lambda clock, /: real(clock) + by_clock.get(clock, 0))
    replace("clock_gettime_ns", lambda clock, /: real_ns(clock) + by_clock.get(clock, 0) * NANOSECONDS)


def shift_conversions():
    """What takes the present time where it is given none."""
    now, local = time.time, time.localtime
    for name in ("gmtime", "localtime", "ctime"):
        replace(name, with_default(getattr(time, name), now))
    asctime, strftime = time.asctime, time.strftime
    replace("asctime", lambda *given: asctime(*given) if given else asctime(local(now())))
    replace("strftime", lambda form, *given: strftime(form, *given) if given else strftime(form, local(now())))


def with_default(real, now):
    return lambda seconds=None, /: real(now() if seconds is None else seconds)


def shift_dates(now):
    """`now`, `utcnow` and `today`, in the types themselves: then each date of the process stays of the one type that
    everything knows, whoever made it and wherever the type was imported from."""
    date, moment, utc = datetime.date, datetime.datetime, datetime.timezone.utc
    from_timestamp = vars(moment)["fromtimestamp"]

    def shifted_now(cls, tz=None):
        """Returns new datetime object representing current time local to tz."""
        return from_timestamp.__get__(None, cls)(now(), tz)

    def shifted_utcnow(cls):
        """Return a new datetime representing UTC day and time."""
        return from_timestamp.__get__(None, cls)(now(), utc).replace(tzinfo=None)

    def shifted_today(cls):
        """Current date or datetime: same as self.__class__.fromtimestamp(time.time())."""
        return cls.fromtimestamp(now())

    set_in_type(moment, "now", shifted_now)
    set_in_type(moment, "utcnow", shifted_utcnow)
    set_in_type(date, "today", shifted_today)
    if abs(moment.now(utc).timestamp() - now()) > 1 or abs(moment.today().timestamp() - now()) > 1:
        raise ClockNotShifted("datetime cannot be shifted in this interpreter")


def set_in_type(cls, name, function):
    """Sets a class method of a type that is written in C, which refuses that by the ordinary way."""
    function.__name__ = name
    function.__qualname__ = f"{cls.__name__}.{name}"
    function.__module__ = cls.__module__
    try:
        setattr(cls, name, classmethod(function))
        return
    except TypeError:
        pass
    # What `vars` shows is a view of the type's own table; the collector names what is behind it.
    (table,) = gc.get_referents(vars(cls))
    table[name] = classmethod(function)
    # Look-ups of before are remembered by type.
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))
