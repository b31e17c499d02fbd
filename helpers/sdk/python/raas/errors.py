"""The errors that code of functions and helpers meets or raises. Owns their names and attributes; imports nothing."""


class WrongArguments(Exception):
    """Raised by a method: its caller is at fault, and is told the message."""

    raas_error_code = "wrong-arguments"


class Refused(Exception):
    """The platform answered a call with a refusal.

    `code` is a stable name, `origin` says who is at fault (`caller`, `helper`, `function`, `platform`), `retryable` whether
    the same call may succeed later. `error` holds `type`, `message` and `stack` of what the other side's code raised, or is
    None.
    """

    def __init__(self, message, code="", origin="platform", retryable=False, error=None, type=""):
        super().__init__(message)
        self.type = type or self.__class__.__name__
        self.message = message
        self.code = code
        self.origin = origin
        self.retryable = retryable
        self.error = error


class HelperError(Refused):
    """A call of a helper has no result."""


class StateError(Refused):
    """The helper's state could not be read or written."""
