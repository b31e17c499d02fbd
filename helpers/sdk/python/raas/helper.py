"""The base class of helpers, and how their methods are marked.

Owns what an author derives from. Outside the platform, as in an author's own unit tests, the state is kept in memory and
there is no helper to call.
"""

from .errors import HelperError
from .memory_state import MemoryState

HOOKS = ("candidates", "train", "reconfigure", "health", "suspend", "resume", "stop")


def method(function):
    """Marks a method of a helper: callers reach it by its name. Plain and `async def` alike."""
    function.raas_method = True
    return function


class Helper:
    """A persistent helper. Derive from it, mark methods with `@method`, and override the hooks that are needed."""

    #: The instance's configuration.
    config = {}
    #: A private folder, where the manifest declares one.
    dir = None
    #: Which outcome of training this replica started from.
    data_version = 1
    #: `serve`, or `train` in the replica that only trains.
    purpose = "serve"
    _state = None
    _helpers = None

    @property
    def state(self):
        """What the instance keeps: `get`, `put`, `delete`, `list`. Writes of one call are committed together."""
        if self._state is None:
            self._state = MemoryState()
        return self._state

    def helper(self, name):
        """The helper that is bound by this name, to call its methods: `self.helper("geo").route(src="SEA")`."""
        if self._helpers is None:
            raise HelperError("no helper is bound outside the platform", code="not-bound", origin="caller")
        return self._helpers(name)

    def start(self):
        """Called once, before the first call: load what is needed."""

    def candidates(self):
        """Yields `(method, arguments)` that are worth computing before anybody asks."""
        return ()

    def train(self):
        """Continuous training, in a replica apart from those that answer. What it writes to `self.state` is what replicas
        start from afterwards. Returning False says that nothing has changed, so that answers that are kept stay."""

    def reconfigure(self, config):
        """Called in a replica that was started with a new configuration, before that is in force; raising refuses it."""

    def health(self):
        """Whether this replica is well; raising or returning False says that it is not."""
        return True

    def suspend(self):
        """Called before the replica sleeps."""

    def resume(self):
        """Called when it wakes."""

    def stop(self):
        """Called once, after the last call."""
