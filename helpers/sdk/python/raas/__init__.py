"""The RaaS SDK for Python: what function code may import by the name `raas`.

Owns the public names. The process that runs functions is in `raas.runtime`, which is no part of the public surface and
is not imported from here, so that `import raas` costs nothing and works outside a sandbox too.
"""

__version__ = "0.1.0"
