"""Whether to take a coat: decided by what the helper `forecast` says of a time.

The coldest that it may well be decides, not the most likely temperature. Where the forecast cannot be had, the answer is
to take the coat and says why; a time that the forecast does not understand is the caller's mistake and stays one.
"""

from raas import HelperError

COAT_BELOW = {"fahrenheit": 55.0, "celsius": 13.0}


def handler(event, context):
    """`{"at": "2026-11-25T14:00"}` -> whether to take a coat, because of what."""
    if not isinstance(event, dict) or not isinstance(event.get("at"), str):
        raise ValueError('the event has to be an object with a time: {"at": "2026-11-25T14:00"}')
    try:
        forecast = context.helper("forecast").predict(at=event["at"])
    except HelperError as error:
        if error.code == "wrong-arguments":
            raise ValueError(error.message) from error
        return {"at": event["at"], "coat": True, "because": f"there is no forecast: {error.code}", "forecast": None}
    coldest, unit = forecast["low"], forecast["unit"]
    coat = coldest < COAT_BELOW[unit]
    because = f"it may be {coldest:g} degrees {unit.capitalize()}" if coat else f"it will hardly be below {coldest:g}"
    return {"at": forecast["at"], "coat": coat, "because": because, "forecast": forecast}
