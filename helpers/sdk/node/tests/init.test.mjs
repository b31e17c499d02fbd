// Boot and INIT: what is announced, how handlers are found in all kinds of modules, and how clearly a bad one is explained.
import assert from "node:assert/strict";
import test from "node:test";
import { INIT_FAILED, RESULT, withRuntime, withStarted } from "./runtime_process.mjs";

test("BOOTED names the interpreter", async () => {
  await withStarted({}, async (runtime) => {
    assert.deepEqual(await runtime.boot(), { runtime: "node", version: process.versions.node });
  });
});

const MODULES = {
  "CommonJS .js": { "main.js": "exports.handler = () => 'works';" },
  "CommonJS .cjs in a module package": { "package.json": '{"type":"module"}', "main.cjs": "exports.handler = () => 'works';" },
  "CommonJS that replaces its exports": { "main.js": "module.exports = { handler() { return 'works'; } };" },
  "ES module .mjs": { "main.mjs": "export const handler = () => 'works';" },
  "ES module by package type": { "package.json": '{"type":"module"}', "main.js": "export const handler = async () => 'works';" },
  "ES module with top-level await": { "main.mjs": "const text = await 'works'; export function handler() { return text; }" },
  "ES module with a default object": { "main.mjs": "export default { handler: () => 'works' };" },
  "CommonJS dependency": { "main.js": "exports.handler = require('dep');", "node_modules/dep/index.js": "module.exports = () => 'works';" },
  "ES dependency": {
    "main.mjs": "export { handler } from 'dep';",
    "node_modules/dep/package.json": '{"name":"dep","exports":"./d.mjs"}',
    "node_modules/dep/d.mjs": "export const handler = () => 'works';",
  },
};
for (const [name, files] of Object.entries(MODULES)) {
  test(name, async () => {
    await withRuntime(files, async (runtime, ready) => {
      assert.ok(ready.init_us > 0);
      assert.equal((await runtime.call(null)).payload, "works");
    });
  });
}

test("folders, environment and working folder", async () => {
  const files = {
    "src/api/index.js": "exports.handler = () => [process.env.GREETING, process.cwd(), __filename.endsWith('src/api/index.js')];",
    "src/two.parts.js": "exports.handler = () => 'two parts';",
  };
  await withRuntime(files, async (runtime) => {
    assert.deepEqual((await runtime.call(null)).payload, ["hello", runtime.folder, true]);
  }, { handler: "src/api.handler", env: { GREETING: "hello" } });
  await withRuntime(files, async (runtime) => {
    assert.equal((await runtime.call(null)).payload, "two parts");
  }, { handler: "src/two.parts.handler" });
});

test("descriptor 3 is out of reach", async () => {
  const code = `
    const fs = require("node:fs"), { promisify } = require("node:util"), { spawnSync } = require("node:child_process");
    exports.handler = async () => {
      const codes = [];
      for (const attempt of [() => fs.closeSync(3), () => fs.writeSync(3, "x"), () => fs.readSync(3, Buffer.alloc(1)),
        () => promisify(fs.write)(3, "x"), () => promisify(fs.close)(3), async () => (await import("node:fs")).writeSync(3, "x")]) {
        try { await attempt(); codes.push("done"); } catch (error) { codes.push(error.code); }
      }
      const child = "fs.readdirSync('/proc/self/fd').map((n) => { try { return n > 2 && fs.readlinkSync('/proc/self/fd/' + n) } catch {} })" +
        ".filter((link) => link && link.startsWith('socket:'))";
      const inChild = spawnSync(process.execPath, ["-p", child], { encoding: "utf8" }).stdout.trim();
      const file = fs.openSync("/proc/self/stat"); fs.closeSync(file);
      return [codes, inChild, (await promisify(fs.read)(fs.openSync("/proc/self/stat"), Buffer.alloc(1), 0, 1, 0)).bytesRead];
    };`;
  await withRuntime(code, async (runtime) => {
    assert.deepEqual((await runtime.call(null)).payload, [Array(6).fill("EBADF"), "[]", 1]);
  });
});

test("output of loading belongs to the instance", async () => {
  await withRuntime("console.log('loading'); process.stdout.write('no newline'); exports.handler = () => 1;", async (runtime) => {
    assert.deepEqual(runtime.logs, [[0, 1, "loading"], [0, 1, "no newline"]]);
  });
});

const FAILURES = {
  "missing file": [{ "app.js": "", "util.mjs": "" }, "HandlerNotFound", /no main\.js.*it has: app\.js, util\.mjs/, null],
  "missing export": [{ "main.js": "exports.handle = () => 1;" }, "HandlerNotFound", /main\.js has no export "handler"; it exports: handle/, null],
  "missing export, ES": [{ "main.mjs": "export const a = 1;" }, "HandlerNotFound", /it exports: a$/, null],
  "not callable": [{ "main.js": "exports.handler = 3;" }, "HandlerNotCallable", /type number/, null],
  "missing dependency": [{ "main.js": "require('no-such-thing');" }, "Error", /no-such-thing/, /main\.js/],
  "missing ES dependency": [{ "main.mjs": "import 'no-such-thing';" }, "Error", /no-such-thing/, null],
  "syntax error": [{ "main.js": "exports.handler = (event) => {\n  return (1 +;\n};" }, "SyntaxError", /Unexpected token/, /main\.js:2[^]*\^/],
  "syntax error, ES": [{ "main.mjs": "export function handler() {\n  return (1 +;\n}" }, "SyntaxError", /Unexpected token/, /main\.mjs:2[^]*\^/],
  "thrown while loading": [{ "main.js": "function f() { throw new TypeError('early'); }\nf();" }, "TypeError", /early/, /at f \(main\.js:1/],
  "thrown while loading, ES": [{ "main.mjs": "throw new TypeError('early');" }, "TypeError", /early/, /at main\.mjs:1/],
  "rejected while loading": [{ "main.mjs": "Promise.reject(new Error('lost')); await new Promise(() => {}); export const handler = 1;" }, "Error", /lost/, null],
  "process.exit while loading": [{ "main.js": "process.exit(0);" }, "ProcessExit", /process\.exit\(0\)/, /main\.js:1/],
};
for (const [name, [files, type, message, stack]] of Object.entries(FAILURES)) {
  test(`INIT_FAILED: ${name}`, async () => {
    await withStarted(files, async (runtime) => {
      await runtime.boot();
      const { kind, payload } = await runtime.init();
      assert.equal(kind, INIT_FAILED);
      assert.equal(payload.type, type, payload.message);
      assert.match(payload.message, message);
      if (stack !== null) {
        assert.match(payload.stack, stack);
      }
      assert.ok(!/raas\/|node:internal/.test(payload.stack), payload.stack);
      assert.equal(await runtime.nextAnswer(), null);
      assert.equal(await runtime.exitStatus(), 1);
    });
  });
}

test("INIT_FAILED: names that are no names", async () => {
  for (const handler of ["main", "", ".handler", "main.", "../main.handler", "/main.handler"]) {
    await withStarted({ "main.js": "exports.handler = () => 1;" }, async (runtime) => {
      await runtime.boot();
      const { kind, payload } = await runtime.init({ handler });
      assert.deepEqual([kind, payload.type], [INIT_FAILED, "InvalidHandlerName"], handler);
    });
  }
});

test("RESULT comes from the file that the handler names", async () => {
  await withRuntime({ "main.js": "exports.other = () => 2;" }, async (runtime) => {
    assert.equal((await runtime.call(null)).kind, RESULT);
  }, { handler: "main.other" });
});
