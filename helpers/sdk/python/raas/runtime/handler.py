"""Loads the function: environment, working folder, import path, and the handler named by INIT.

Owns the explanations of what can be wrong with a handler name, since this is the first thing a new author gets wrong.
Must not run before INIT: until then the process belongs to nobody.
"""

import gc
import importlib
import os
import sys
import time

SHOWN_NAMES_MAX = 20


class HandlerNotFound(Exception):
    """INIT names a module or an attribute that is not there."""


class HandlerNotCallable(Exception):
    """INIT names something that cannot be called."""


class InvalidHandlerName(Exception):
    """INIT's handler is not of the form `module.function`."""


def load_handler(settings):
    """The callable that INIT names; raises one of the above or whatever the function's own code raises."""
    code_dir = settings["code_dir"]
    enter(code_dir, settings["env"])
    # A collection in the middle of an import finds nothing: what modules make stays.
    gc.disable()
    try:
        return find_handler(settings["handler"], code_dir)
    finally:
        gc.enable()


def enter(code_dir, env):
    """Makes the process the function's: its variables, its folder, its modules before all others."""
    os.environ.update(env)
    if "TZ" in env:
        time.tzset()
    os.chdir(code_dir)
    dependencies = os.path.join(code_dir, ".raas", "python")
    sys.path[:0] = [code_dir, dependencies]
    if os.path.isdir(dependencies):
        run_path_files(dependencies)
    importlib.invalidate_caches()


def run_path_files(folder):
    """Follows `.pth` files, which some packages need to be importable; `site` is only loaded where there are any."""
    if any(name.endswith(".pth") for name in os.listdir(folder)):
        import site

        site.addsitedir(folder, set(sys.path))


def find_handler(name, code_dir):
    module_name, dot, attribute = name.rpartition(".")
    if not dot or not all(part.isidentifier() for part in name.split(".")):
        raise InvalidHandlerName(f'handler "{name}" is not of the form module.function')
    module = import_module(module_name, name, code_dir)
    try:
        handler = getattr(module, attribute)
    except AttributeError:
        raise HandlerNotFound(missing_attribute(module, attribute, name, code_dir)) from None
    if not callable(handler):
        raise HandlerNotCallable(f'handler "{name}" is of type {type(handler).__name__}, which cannot be called')
    return handler


def import_module(module_name, name, code_dir):
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only when the handler's own module, or a package above it, is missing: a missing dependency is its own story.
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise HandlerNotFound(missing_module(error.name, name, code_dir)) from None
        raise


def missing_module(missing, name, code_dir):
    entries = sorted(os.listdir(code_dir))
    found = [entry for entry in entries if entry.endswith(".py") or os.path.isdir(os.path.join(code_dir, entry))]
    found = [entry for entry in found if not entry.startswith((".", "__pycache__"))]
    there = f"it has: {listed(found)}" if found else "it has no Python files"
    return f'handler "{name}": there is no module "{missing}" in the function\'s folder; {there}'


def missing_attribute(module, attribute, name, code_dir):
    file = getattr(module, "__file__", None) or module.__name__
    file = os.path.relpath(file, code_dir) if file.startswith(code_dir + "/") else file
    own = [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    there = f"it defines: {listed(sorted(own))}" if own else "it defines no function"
    return f'handler "{name}": {file} has no "{attribute}"; {there}'


def listed(names):
    shown = ", ".join(names[:SHOWN_NAMES_MAX])
    return shown + (f" and {len(names) - SHOWN_NAMES_MAX} more" if len(names) > SHOWN_NAMES_MAX else "")
