"""Serving a helper: from INIT's entry to one object, and from events to its methods and hooks.

Owns the event's layout and what makes arguments wrong. The object is called through an ordinary handler, so that the ways of
serving need not know that it is a helper.
"""

import inspect
from itertools import islice

from ..errors import WrongArguments
from ..helper import HOOKS, Helper
from .handler import enter, import_module
from .results import encode_result
from .state import PlatformState, current_writes


class UnknownMethod(Exception):
    """The class has no such method."""

    raas_error_code = "unknown-method"


class InvalidEntry(Exception):
    """INIT's entry is not `module:Class` of a class derived from raas.Helper."""


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
        self.state = PlatformState(calls)
        helper = self.helper = cls.__new__(cls)
        helper.config = facts["config"]
        helper.dir = facts["dir"]
        helper.data_version = facts["data_version"]
        helper.purpose = facts["purpose"]
        helper._state = self.state
        helper._helpers = helpers
        helper.__init__()
        self.methods = {
            name: Method(name, getattr(helper, name))
            for name in dir(cls)
            if not name.startswith("_") and getattr(getattr(cls, name, None), "raas_method", False)
        }
        self.hooks = [name for name in HOOKS if getattr(cls, name) is not getattr(Helper, name)]
        self.is_async = any(one.is_async for one in self.methods.values())
        self.committed(helper.start)

    def description(self):
        """What READY says of it."""
        parameters = {name: one.order for name, one in sorted(self.methods.items())}
        return {"methods": list(parameters), "parameters": parameters, "hooks": self.hooks}

    def committed(self, function, *arguments):
        """Calls a hook; what it wrote is committed when it returns."""
        token = current_writes.set({})
        try:
            value = function(*arguments)
            self.state.commit(current_writes.get())
            return value
        finally:
            current_writes.reset(token)

    def handle(self, event, context):
        """A handler for the ways of serving that run plain functions."""
        name = event.get("method")
        if name is None:
            return self.run_hook(event)
        method, arguments = self.find(name, event)
        token = current_writes.set({})
        try:
            value = method.call(**arguments)
            self.finish(value)
            return value
        finally:
            current_writes.reset(token)

    async def handle_async(self, event, context):
        """The same for the event loop."""
        name = event.get("method")
        if name is None:
            return self.run_hook(event)
        method, arguments = self.find(name, event)
        current_writes.set({})  # of this task alone
        value = method.call(**arguments)
        if method.is_async:
            value = await value
        self.finish(value)
        return value

    def find(self, name, event):
        method = self.methods.get(name)
        if method is None:
            there = ", ".join(sorted(self.methods)) or "none"
            raise UnknownMethod(f"there is no method {name}; there are: {there}")
        arguments = event.get("args", {})
        method.check(arguments)
        return method, arguments

    def finish(self, value):
        writes = current_writes.get()
        if writes:
            # What cannot be answered is not written either.
            encode_result(value)
            self.state.commit(writes)

    def run_hook(self, event):
        hook = event.get("hook")
        helper = self.helper
        if hook == "train":
            value = self.committed(helper.train)
            return {"value": value}
        if hook == "candidates":
            return [self.candidate(one) for one in islice(helper.candidates() or (), int(event["limit"]))]
        if hook == "reconfigure":
            config = event["config"]
            self.committed(helper.reconfigure, config)
            helper.config = config
            return None
        if hook == "health":
            if helper.health() is False:
                raise RuntimeError("health() returned False")
            return True
        if hook in ("suspend", "resume"):
            self.committed(getattr(helper, hook))
            return None
        raise UnknownMethod(f"there is no hook {hook}")

    def candidate(self, one):
        name, arguments = one
        name = name if isinstance(name, str) else name.__name__
        if not isinstance(arguments, dict):
            arguments = dict(zip(self.methods[name].order, arguments))
        return {"method": name, "args": arguments}


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
