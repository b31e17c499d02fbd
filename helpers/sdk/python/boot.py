"""The file that the sandbox starts: puts the SDK on the path and hands over to the runtime.

It stays this short because a script, unlike a module, is compiled again at every start.
"""

import sys

sys.path.append(__file__.rpartition("/")[0] or ".")

from raas.runtime.process import main  # noqa: E402 - the path has to be there first

main()
