"""Boot and INIT: what is announced, what is loaded when, and how clearly a bad handler is explained."""

import os
import unittest

from runtime_process import INIT_FAILED, READY, RESULT, Runtime, started


class Boot(unittest.TestCase):
    def test_booted_names_the_interpreter(self):
        with Runtime() as runtime:
            booted = runtime.boot()
            self.assertEqual(booted["runtime"], "python3")
            self.assertRegex(booted["version"], r"^3\.\d+\.\d+$")

    def test_descriptor_3_is_out_of_reach(self):
        code = """
            import os, subprocess, sys
            def handler(event, context):
                try:
                    os.fstat(3)
                    return "descriptor 3 is open"
                except OSError:
                    pass
                os.closerange(3, 256)
                child = "import os; print([n for n in os.listdir('/proc/self/fd') if int(n) > 3 and 'socket' in os.readlink(f'/proc/self/fd/{n}')] )"
                return subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, close_fds=False).stdout
        """
        with started(code) as runtime:
            self.assertEqual(runtime.call(), (RESULT, "[]\n"))

    def test_environment_folder_and_dependencies(self):
        files = {
            "app/__init__.py": "",
            "app/api.py": """
                import json, os, dependency, raas
                def handler(event, context):
                    return [os.environ["GREETING"], os.getcwd(), dependency.NAME, os.path.basename(__file__)]
            """,
            ".raas/python/dependency.py": "NAME = 'from .raas/python'",
            ".raas/python/more.pth": "extra",
            ".raas/python/extra/added.py": "",
        }
        with Runtime(files) as runtime:
            runtime.boot()
            kind, ready = runtime.init("app.api.handler", env={"GREETING": "hello"})
            self.assertEqual(kind, READY)
            self.assertGreater(ready["init_us"], 0)
            self.assertEqual(runtime.call()[1], ["hello", runtime.folder, "from .raas/python", "api.py"])

    def test_a_handler_may_be_any_callable(self):
        code = """
            import functools
            class Callable:
                def __call__(self, event, context):
                    return "object"
            class AsyncCallable:
                async def __call__(self, event, context):
                    return "async object"
            async def three(one, event, context):
                return one
            objects, async_objects, partial = Callable(), AsyncCallable(), functools.partial(three, "partial")
        """
        for handler, expected in (("objects", "object"), ("async_objects", "async object"), ("partial", "partial")):
            with started(code, handler="main." + handler) as runtime:
                self.assertEqual(runtime.call(), (RESULT, expected))

    def test_output_of_the_import_belongs_to_the_instance(self):
        with started("print('importing'); print('no newline', end='')\ndef handler(event, context): pass") as runtime:
            self.assertEqual(runtime.logs, [(0, 1, "importing"), (0, 1, "no newline")])


class InitFailed(unittest.TestCase):
    def fails(self, files, handler="main.handler"):
        with Runtime(files) as runtime:
            runtime.boot()
            kind, error = runtime.init(handler)
            self.assertEqual(kind, INIT_FAILED)
            self.assertIsNone(runtime.next_answer())
            self.assertEqual(runtime.wait(), 1)
            self.assertNotIn(os.sep + "raas" + os.sep, error["stack"])
            self.assertNotIn("importlib", error["stack"])
            return error

    def test_missing_module(self):
        error = self.fails({"app.py": "", "util.py": ""})
        self.assertEqual(error["type"], "HandlerNotFound")
        self.assertIn('no module "main"', error["message"])
        self.assertIn("app.py, util.py", error["message"])

    def test_missing_attribute(self):
        error = self.fails({"main.py": "from os import path\ndef handle(event, context): pass\nclass Thing: pass"})
        self.assertEqual(error["type"], "HandlerNotFound")
        self.assertIn('main.py has no "handler"; it defines: Thing, handle', error["message"])

    def test_missing_dependency(self):
        error = self.fails({"main.py": "import no_such_thing"})
        self.assertEqual(error["type"], "ModuleNotFoundError")
        self.assertIn("no_such_thing", error["message"])
        self.assertIn('File "main.py", line 1', error["stack"])

    def test_syntax_error(self):
        error = self.fails({"main.py": "def handler(event, context):\n    return (1 +\n"})
        self.assertEqual(error["type"], "SyntaxError")
        self.assertIn('File "main.py", line 2', error["stack"])
        self.assertIn("^", error["stack"])

    def test_exit_and_exceptions_at_import(self):
        self.assertEqual(self.fails({"main.py": "import sys\nsys.exit(4)"})["type"], "SystemExit")
        error = self.fails({"main.py": "def f():\n    raise ValueError('at import')\nf()"})
        self.assertEqual((error["type"], error["message"]), ("ValueError", "at import"))
        self.assertEqual(error["stack"].count("File "), 2, error["stack"])

    def test_not_callable_and_bad_names(self):
        self.assertEqual(self.fails({"main.py": "handler = 3"})["type"], "HandlerNotCallable")
        for name in ("main", "", ".handler", "main.", "../main.handler", "main handler.x"):
            with self.subTest(name):
                self.assertEqual(self.fails({"main.py": ""}, name)["type"], "InvalidHandlerName")


if __name__ == "__main__":
    unittest.main()
