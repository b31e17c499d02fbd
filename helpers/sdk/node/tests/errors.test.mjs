// Failures of a handler: what the caller sees, what the instance survives, and how it ends when it does not.
import assert from "node:assert/strict";
import test from "node:test";
import { ERROR, INVOKE, RESULT, invokePayload, pack, withRuntime } from "./runtime_process.mjs";

const HANDLER = `
  class Custom extends Error {}
  class Named extends Error { get name() { throw 1; } get message() { throw 2; } }
  function inner(kind) {
    if (kind === "range") throw new RangeError("no good: ü \\ud800");
    if (kind === "custom") throw new Custom("mine");
    if (kind === "cause") throw new Error("outer", { cause: new TypeError("inner cause") });
    if (kind === "text") throw "just text";
    if (kind === "nothing") throw undefined;
    if (kind === "hostile") throw new Named("x");
    if (kind === "proxy") throw new Proxy({}, { get() { throw new Error("trap"); }, getPrototypeOf() { throw new Error("trap"); } });
    if (kind === "recursion") return inner(kind) + 1;
    if (kind === "long") throw new Error("x".repeat(1_000_000));
    if (kind === "exit") process.exit(3);
    return "fine";
  }
  exports.handler = (event) => inner(event);
  exports.later = async (event) => { await null; return inner(event); };
`;

for (const handler of ["main.handler", "main.later"]) {
  test(`thrown values, ${handler}`, async () => {
    await withRuntime(HANDLER, async (runtime) => {
      const fails = async (event) => {
        const { kind, payload } = await runtime.call(event);
        assert.equal(kind, ERROR, event);
        assert.deepEqual(Object.values(payload).map((value) => typeof value), ["string", "string", "string"]);
        assert.ok(Buffer.byteLength(payload.stack) <= 32 << 10);
        assert.ok(!/raas\/|boot\.cjs|node:internal/.test(payload.stack), payload.stack);
        assert.equal((await runtime.call("fine")).payload, "fine", "the instance goes on");
        return payload;
      };
      const range = await fails("range");
      assert.equal(range.type, "RangeError");
      assert.equal(range.message, "no good: ü \ufffd");
      assert.match(range.stack, /at inner \(main\.js:\d+:\d+\)/);
      const types = {
        custom: ["Custom", "mine"], text: ["NonErrorThrown", "'just text'"], nothing: ["NonErrorThrown", "undefined"],
        exit: ["ProcessExit", "the function called process.exit(3); return from the handler, or throw, instead"],
        recursion: ["RangeError", "Maximum call stack size exceeded"],
      };
      for (const [event, [type, message]] of Object.entries(types)) {
        const error = await fails(event);
        assert.deepEqual([error.type, error.message], [type, message]);
      }
      assert.match((await fails("cause")).stack, /Error: outer[^]*\[cause\]: TypeError: inner cause/);
      await fails("hostile");
      await fails("proxy");
      const long = await fails("long");
      assert.ok(Buffer.byteLength(long.message) <= 8 << 10 && long.message.includes("bytes left out"));
    }, { handler });
  });
}

const ESCAPES = {
  "unhandled rejection": ["Promise.reject(new TypeError('escaped'))", "TypeError"],
  "uncaught exception": ["setImmediate(() => { throw new TypeError('escaped'); })", "TypeError"],
  "process.exit in a timer": ["setTimeout(() => process.exit(0), 1)", "ProcessExit"],
};
for (const [name, [escape, type]] of Object.entries(ESCAPES)) {
  test(`${name}: all in flight are answered and the process ends`, async () => {
    const code = `exports.handler = (event) => { console.log("before"); if (event === 3) { ${escape}; } return new Promise(() => {}); };`;
    await withRuntime(code, async (runtime) => {
      runtime.send(...[1, 2, 3].map((id) => pack(INVOKE, id, invokePayload(id))));
      const ids = [];
      for (let count = 0; count < 3; count += 1) {
        const { kind, id, payload } = await runtime.nextAnswer();
        assert.equal(kind, ERROR);
        assert.equal(payload.type, type);
        ids.push(Number(id));
      }
      assert.deepEqual(ids, [1, 2, 3]);
      assert.equal(await runtime.nextAnswer(), null);
      assert.equal(await runtime.exitStatus(), 1);
    });
  });
}

test("a function that listens for escaped errors itself goes on", async () => {
  const code = `process.on("unhandledRejection", () => console.log("seen"));
    exports.handler = async (event) => { if (event) { Promise.reject(new Error("x")); } return event; };`;
  await withRuntime(code, async (runtime) => {
    assert.equal((await runtime.call(true)).kind, RESULT);
    await runtime.nextLog("seen");
    assert.equal((await runtime.call(false)).kind, RESULT);
  });
});

test("what dies at once is only seen as the end of the connection", async () => {
  for (const [statement, status] of [["process.abort()", "SIGABRT"], ["process.reallyExit(9)", 9], ["process.kill(process.pid, 'SIGKILL')", "SIGKILL"]]) {
    await withRuntime(`exports.handler = () => { console.log("last words"); ${statement}; };`, async (runtime) => {
      runtime.send(pack(INVOKE, 1, invokePayload(1)));
      assert.equal(await runtime.nextAnswer(), null);
      assert.equal(await runtime.exitStatus(), status);
      assert.deepEqual(runtime.logs, [[1, 1, "last words"]]);
    });
  }
});
