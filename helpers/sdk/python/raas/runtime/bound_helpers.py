"""`context.helper(name)`: helpers as objects whose methods are calls of the platform.

Owns the proxy's names and how arguments become a frame. Knows no sockets.
"""

import asyncio
import json

from ..errors import HelperError
from .calls import HELPER, HELPER_POSITIONAL, refusal
from .results import encode_arguments


class BoundHelpers:
    """The helpers that this code may call."""

    def __init__(self, calls, names):
        self._calls = calls
        self._names = frozenset(names)
        self._proxies = {}

    def __call__(self, name):
        proxy = self._proxies.get(name)
        if proxy is None:
            if name not in self._names:
                bound = ", ".join(sorted(self._names)) or "none"
                message = f"no helper is bound by the name {name!r}; bound are: {bound}"
                raise HelperError(message, code="not-bound", origin="caller")
            proxy = self._proxies[name] = HelperProxy(self._calls, name)
        return proxy


class HelperProxy:
    """A helper: its methods are attributes, called with arguments by name or by place. `aio` has the same to be awaited."""

    def __init__(self, calls, name):
        self._calls = calls
        self._name = name

    @property
    def aio(self):
        return AsyncHelperProxy(self._calls, self._name)

    def __getattr__(self, method):
        if method.startswith("_"):
            raise AttributeError(method)
        calls, target = self._calls, f"{self._name}/{method}"

        def call(*positional, **arguments):
            return result(*calls.call(*encoded(target, positional, arguments)))

        call.__name__ = method
        self.__dict__[method] = call
        return call

    def __repr__(self):
        return f"<helper {self._name}>"


class AsyncHelperProxy(HelperProxy):
    """The same for code that runs in the event loop."""

    def __getattr__(self, method):
        if method.startswith("_"):
            raise AttributeError(method)
        calls, target = self._calls, f"{self._name}/{method}"

        async def call(*positional, **arguments):
            request = encoded(target, positional, arguments)
            loop = asyncio.get_running_loop()
            if calls.loop is loop:
                return result(*await calls.call_async(*request))
            # A loop of the function's own: a thread waits, so that the loop goes on.
            return result(*await loop.run_in_executor(None, calls.call, *request))

        call.__name__ = method
        self.__dict__[method] = call
        return call


def encoded(target, positional, arguments):
    """Operation, target and body of a call."""
    try:
        if not positional:
            return HELPER, target, encode_arguments(arguments)
        # The platform knows the names of the other side's parameters.
        return HELPER_POSITIONAL, target, encode_arguments({"positional": positional, "named": arguments})
    except ValueError as error:
        raise HelperError(f"{target}: {error}", code="wrong-arguments", origin="caller") from None


def result(done, body):
    if done:
        return json.loads(body)
    raise HelperError(**refusal(body))
