"""The RaaS SDK for Python: what code of functions and helpers may import by the name `raas`.

Owns the public names. The process that runs the code is in `raas.runtime`, which is no part of the public surface and
is not imported from here, so that `import raas` costs nothing and works outside a sandbox too.
"""

from .errors import HelperError, StateError, WrongArguments
from .helper import Helper, method

__all__ = ["Helper", "HelperError", "StateError", "WrongArguments", "method"]
__version__ = "0.1.0"
