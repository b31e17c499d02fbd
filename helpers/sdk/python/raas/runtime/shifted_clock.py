"""Clocks that tell code another time: the wall clock shifted by what INIT says, the others by a constant.

Owns which functions of `time`, `datetime` and `uuid` read a clock. The runtime keeps the functions that it took before, so
that deadlines mean the same. What reads a clock without these modules (C extensions, file times, other programs) is not
shifted.
"""

import ctypes
import datetime
import gc
import time
import uuid

#: The origin of these clocks is arbitrary, so code whose result depends on it is found by moving it. Towards the future, so
#: that no reading is below zero.
ORIGIN_SHIFT_S = 1_000_003
NS_PER_S = 1_000_000_000
US_PER_S = 1_000_000
#: A UUID counts time in steps of 100 ns, in 60 bits.
UUID_STEPS_PER_S = 10_000_000
UUID_TIME_BITS = 60

WALL_CLOCK_IDS = ("CLOCK_REALTIME", "CLOCK_REALTIME_COARSE", "CLOCK_TAI")
ORIGIN_CLOCK_IDS = ("CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_MONOTONIC_COARSE", "CLOCK_BOOTTIME")


class Shifted:
    """Stands for a function of `time`. No plain function: as an attribute of a class that would be called with the object."""

    def __init__(self, original, call):
        self.__name__ = self.__qualname__ = original.__name__
        self.__module__ = original.__module__
        self.__doc__ = original.__doc__
        self._call = call

    def __call__(self, *arguments):
        return self._call(*arguments)

    def __repr__(self):
        return f"<built-in function {self.__name__}>"

    def __reduce__(self):
        return self.__name__


def shift_clocks(shift_s):
    """Shifts all clocks, once, before user code is imported. False where this interpreter does not allow it."""
    for name, call in replacements(shift_s).items():
        setattr(time, name, Shifted(getattr(time, name), call))
    if uuid._generate_time_safe is not None:
        uuid._generate_time_safe = shifted_uuid_source(uuid._generate_time_safe, shift_s)
    return shift_datetime(datetime.datetime, shift_s)


def replacements(shift_s):
    """By name what takes the place of the functions of `time` that read a clock."""
    wall, wall_ns = time.time, time.time_ns
    calls = {
        "time": lambda: wall() + shift_s,
        "time_ns": lambda: wall_ns() + shift_s * NS_PER_S,
        **{name: of_time(getattr(time, name), wall, shift_s) for name in ("gmtime", "localtime", "ctime")},
        **of_local_time(time.localtime, wall, shift_s),
        **by_clock_id(shift_s),
    }
    for name in ("monotonic", "perf_counter"):
        calls[name] = later(getattr(time, name), ORIGIN_SHIFT_S)
        calls[name + "_ns"] = later(getattr(time, name + "_ns"), ORIGIN_SHIFT_S * NS_PER_S)
    return calls


def later(clock, shift):
    return lambda: clock() + shift


def of_time(convert, wall, shift_s):
    """For what takes seconds, or None for now."""

    def call(*seconds):
        return convert(wall() + shift_s) if seconds in ((), (None,)) else convert(*seconds)

    return call


def of_local_time(localtime, wall, shift_s):
    """For what takes a time in parts, which is now where it is left out."""
    asctime, strftime = time.asctime, time.strftime
    return {
        "asctime": lambda *parts: asctime(*(parts or (localtime(wall() + shift_s),))),
        "strftime": lambda form, *parts: strftime(form, *(parts or (localtime(wall() + shift_s),))),
    }


def by_clock_id(shift_s):
    shifts = {getattr(time, name): shift_s for name in WALL_CLOCK_IDS if hasattr(time, name)}
    shifts.update({getattr(time, name): ORIGIN_SHIFT_S for name in ORIGIN_CLOCK_IDS if hasattr(time, name)})
    seconds, nanoseconds = time.clock_gettime, time.clock_gettime_ns
    return {
        "clock_gettime": lambda clock_id: seconds(clock_id) + shifts.get(clock_id, 0),
        "clock_gettime_ns": lambda clock_id: nanoseconds(clock_id) + shifts.get(clock_id, 0) * NS_PER_S,
    }


def shift_datetime(cls, shift_s):
    """Replaces the two methods of `datetime` that read the clock. `today`, of `date` too, asks `time.time`.

    In the class itself: with a class in its place, what C code makes would be of another class than what the function names,
    and comparing types, pickling or registering for a type would differ from a run without a check.
    """
    wall_ns = time.time_ns  # shifted already
    fromtimestamp, original_utcnow = vars(cls)["fromtimestamp"], vars(cls)["utcnow"]
    shift = datetime.timedelta(seconds=shift_s)

    def now(cls, tz=None):
        # Whole microseconds, which survive the way through a float.
        return fromtimestamp.__get__(None, cls)(wall_ns() // 1000 / US_PER_S, tz)

    def utcnow(cls):
        return original_utcnow.__get__(None, cls)() + shift

    for method in (now, utcnow):
        method.__qualname__ = f"datetime.{method.__name__}"
        set_in_class(cls, method.__name__, classmethod(method))
    return getattr(cls.now, "__func__", None) is now and getattr(cls.utcnow, "__func__", None) is utcnow


def set_in_class(cls, name, value):
    """Sets an attribute of a built-in class, which refuses it: in the dictionary that its `__dict__` is a view of."""
    members = gc.get_referents(cls.__dict__)[0]
    members[name] = value
    # What was looked up before is remembered otherwise.
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))


def shifted_uuid_source(original, shift_s):
    """What `uuid1` takes from the C library, with another time in it."""

    def generate():
        data, is_safe = original()
        made = uuid.UUID(bytes=data)
        steps = (made.time + shift_s * UUID_STEPS_PER_S) % (1 << UUID_TIME_BITS)
        fields = (
            steps & 0xFFFFFFFF,
            steps >> 32 & 0xFFFF,
            steps >> 48 | made.version << 12,
            made.clock_seq_hi_variant,
            made.clock_seq_low,
            made.node,
        )
        return uuid.UUID(fields=fields).bytes, is_safe

    return generate
