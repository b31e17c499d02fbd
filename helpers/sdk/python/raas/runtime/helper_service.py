"""Serving a helper: from INIT's entry to one object, and from events to its methods and hooks.

Owns the event's layout and what makes arguments wrong. The object is called through an ordinary handler, so that the ways of
serving need not know that it is a helper.
"""

import asyncio
import inspect
from itertools import islice

from ..errors import WrongArguments
from ..helper import HOOKS, Helper
from .handler import enter, import_module
from .results import await_value, encode_result
from .state import PlatformState, collect_writes, take_writes


class UnknownMethod(Exception):
    """The class has no such method."""

    raas_error_code = "unknown-method"


class InvalidCandidate(Exception):
    """`candidates` yielded what is no call."""


class InvalidEntry(Exception):
    """INIT's entry is not `module:Class` of a class derived from raas.Helper, or the class has what cannot be called."""


class Method:
    """A method and the names that it takes."""

    __slots__ = ("call", "is_async", "names", "required", "takes_any", "order", "name")

    def __init__(self, name, call):
        self.name = name
        self.call = call
        self.is_async = inspect.iscoroutinefunction(call)
        parameters = inspect.signature(call).parameters.values()
        named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        if any(one.kind is one.POSITIONAL_ONLY for one in parameters):
            raise InvalidEntry(f"method {name}: parameters before `/` cannot be named, and callers name them all")
        self.order = [one.name for one in named]
        self.names = frozenset(self.order)
        self.required = frozenset(one.name for one in named if one.default is one.empty)
        self.takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)

    def check(self, arguments):
        if type(arguments) is not dict:
            raise WrongArguments(f"{self.name}: arguments are an object of named ones")
        given = arguments.keys()
        if not self.takes_any and not given <= self.names:
            unknown = ", ".join(sorted(given - self.names))
            takes = ", ".join(self.order) or "nothing"
            raise WrongArguments(f"{self.name} does not take: {unknown}; it takes: {takes}")
        if not self.required <= given:
            raise WrongArguments(f"{self.name} lacks: {', '.join(sorted(self.required - given))}")


class HelperService:
    """The one object of the class, and how it is called."""

    def __init__(self, settings, calls, helpers):
        facts = settings["helper"]
        enter(settings["code_dir"], settings["env"])
        cls = load_class(settings["handler"], settings["code_dir"])
        check_hooks(cls)
        self._state = PlatformState(calls)
        helper = self._helper = cls.__new__(cls)
        helper.config = facts["config"]
        helper.dir = facts["dir"]
        helper.data_version = facts["data_version"]
        helper.purpose = facts["purpose"]
        helper._state = self._state
        helper._helpers = helpers
        helper.__init__()
        self._methods = {
            name: Method(name, getattr(helper, name))
            for name in dir(cls)
            if not name.startswith("_") and getattr(getattr(cls, name, None), "raas_method", False)
        }
        self._hooks = [name for name in HOOKS if getattr(cls, name) is not getattr(Helper, name)]
        self.is_async = any(one.is_async for one in self._methods.values())
        self._run_outside(helper.start)

    def description(self):
        """What READY says of it."""
        parameters = {name: one.order for name, one in sorted(self._methods.items())}
        return {"methods": list(parameters), "parameters": parameters, "hooks": self._hooks}

    def stop(self):
        self._run_outside(self._helper.stop)

    def _run_outside(self, hook):
        """Calls a hook outside any invocation; what it wrote is committed when it returns."""
        collect_writes()
        try:
            hook()
        finally:
            writes = take_writes()
        self._state.commit(writes)

    def handle(self, event, context):
        """A handler for the ways of serving that run plain functions."""
        collect_writes()
        value = self._value(event)
        if inspect.isawaitable(value):
            value = asyncio.run(await_value(value))
        self._state.commit(writes_with(value))
        return value

    async def handle_async(self, event, context):
        """The same for the event loop."""
        collect_writes()
        value = self._value(event)
        if inspect.isawaitable(value):
            value = await value
        await self._state.commit_async(writes_with(value))
        return value

    def _value(self, event):
        name = event.get("method")
        if name is None:
            return self._run_hook(event)
        method = self._find(name)
        arguments = event.get("args", {})
        method.check(arguments)
        return method.call(**arguments)

    def _find(self, name):
        method = self._methods.get(name)
        if method is None:
            there = ", ".join(sorted(self._methods)) or "none"
            raise UnknownMethod(f"there is no method {name}; there are: {there}")
        return method

    def _run_hook(self, event):
        hook = event.get("hook")
        helper = self._helper
        if hook == "train":
            return {"value": helper.train()}
        if hook == "candidates":
            return [self._candidate(one) for one in islice(helper.candidates() or (), int(event["limit"]))]
        if hook == "reconfigure":
            helper.reconfigure(event["config"])
            helper.config = event["config"]
            return None
        if hook == "health":
            return helper.health()
        if hook in ("suspend", "resume"):
            getattr(helper, hook)()
            return None
        raise UnknownMethod(f"there is no hook {hook}")

    def _candidate(self, one):
        """What `candidates` yielded, as a call."""
        name, arguments = one
        method = self._find(name if isinstance(name, str) else name.__name__)
        if isinstance(arguments, (tuple, list)):
            if len(arguments) > len(method.order):
                raise InvalidCandidate(f"{method.name} takes {len(method.order)} arguments, not {arguments!r}")
            arguments = dict(zip(method.order, arguments))
        if not isinstance(arguments, dict):
            raise InvalidCandidate(f"the arguments for {method.name} are a dict, a tuple or a list, not {arguments!r}")
        return {"method": method.name, "args": arguments}


def writes_with(value):
    """The writes of the call that gave `value`."""
    writes = take_writes()
    if writes:
        # What cannot be answered is not written either.
        encode_result(value)
    return writes


def check_hooks(cls):
    for name in ("start", *HOOKS):
        hook = getattr(cls, name)
        if inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook):
            raise InvalidEntry(f"{name}() is `async def`; methods may be, hooks are plain functions")


def load_class(entry, code_dir):
    module_name, colon, name = entry.partition(":")
    if not colon:
        raise InvalidEntry(f'entry "{entry}" is not of the form module:Class')
    module = import_module(module_name, entry, code_dir)
    cls = getattr(module, name, None)
    if not isinstance(cls, type) or not issubclass(cls, Helper):
        found = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Helper)]
        there = ", ".join(key for key in found if key != "Helper") or "none"
        raise InvalidEntry(f'entry "{entry}": {module_name} has no class {name} derived from raas.Helper; it has: {there}')
    return cls
