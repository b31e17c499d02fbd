// Lines that a function prints: each reaches the right request, whole, and never disturbs the frames.
import assert from "node:assert/strict";
import test from "node:test";
import { INVOKE, invokePayload, pack, withRuntime } from "./runtime_process.mjs";

test("all the ways to print", async () => {
  const code = `exports.handler = async () => {
    console.log("one", 2, { a: 1 });
    process.stdout.write("a\\nb\\n\\nc");
    process.stdout.write(Buffer.from([0xc3]));
    process.stdout.write(new Uint8Array([0xbc, 0x0a]));
    console.error("to stderr");
    process.stdout.write("bGF0aW4K", "base64");
    await new Promise((resolve) => process.stdout.write("called back\\n", resolve));
    console.log("lone \\ud800");
    process.stdout.write("rest");
  };`;
  await withRuntime(code, async (runtime) => {
    await runtime.call(null, { id: 5 });
    assert.deepEqual(runtime.logs, [
      [5, 1, "one 2 { a: 1 }"], [5, 1, "a"], [5, 1, "b"], [5, 1, ""], [5, 1, "cü"], [5, 2, "to stderr"], [5, 1, "latin"],
      [5, 1, "called back"], [5, 1, "lone \ufffd"], [5, 1, "rest"],
    ]);
  });
});

test("long lines are cut", async () => {
  const code = `exports.handler = () => {
    console.log("ü".repeat(100000)); console.log("x".repeat(65535));
    for (let i = 0; i < 3000; i += 1) process.stdout.write("x".repeat(100));
    process.stdout.write("\\n");
    for (let i = 0; i < 3000; i += 1) process.stdout.write(Buffer.alloc(100, 120));
  };`;
  await withRuntime(code, async (runtime) => {
    await runtime.call(null);
    const texts = runtime.logs.map(([, , text]) => text);
    assert.equal(texts.length, 4);
    for (const index of [0, 2, 3]) {
      assert.ok(Buffer.byteLength(texts[index]) <= 65535);
      assert.ok(texts[index].endsWith(" … [line cut at 64 KiB]") && !texts[index].includes("\ufffd"));
    }
    assert.equal(texts[1], "x".repeat(65535));
  });
});

test("concurrent requests, timers and children of promises", async () => {
  const code = `
    const { setTimeout: wait } = require("node:timers/promises");
    exports.handler = async (event) => {
      for (let i = 0; i < 40; i += 1) {
        await (i % 10 === 0 ? wait(1) : null);
        process.stdout.write(event + " ");
        await Promise.all([null].map(async () => { await null; console.log(i); }));
      }
    };`;
  await withRuntime(code, async (runtime) => {
    const ids = [10, 11, 12, 13, 14, 15, 16, 17];
    runtime.send(...ids.map((id) => pack(INVOKE, id, invokePayload(id))));
    for (const _ of ids) {
      await runtime.nextAnswer();
    }
    for (const id of ids) {
      const own = runtime.logs.filter(([from]) => from === id).map(([, , text]) => text);
      assert.deepEqual(own, Array.from({ length: 40 }, (_, index) => `${id} ${index}`));
    }
    assert.equal(runtime.logs.length, 40 * ids.length);
  });
});

test("what runs on after its answer prints for the instance", async () => {
  const code = `let go; exports.handler = (event) => { if (event === "start") { new Promise((resolve) => { go = resolve; }).then(() => console.log("late")); } else { go(); } };`;
  await withRuntime(code, async (runtime) => {
    await runtime.call("start", { id: 1 });
    await runtime.call("go", { id: 2 });
    await runtime.nextLog("late");
    assert.deepEqual(runtime.logs, [[0, 1, "late"]]);
  });
});

test("raw writes stay on the pipes", async () => {
  const code = `exports.handler = () => {
    require("node:fs").writeSync(1, Buffer.from([0x84, 0x00, 0xff, 0x0a]));
    require("node:child_process").spawnSync("echo", ["from a child"], { stdio: "inherit" });
    return "clean";
  };`;
  await withRuntime(code, async (runtime) => {
    assert.equal((await runtime.call(null)).payload, "clean");
    runtime.socket.destroy();
    assert.equal(await runtime.exitStatus(), 0);
    assert.deepEqual(await runtime.stdout, Buffer.concat([Buffer.from([0x84, 0x00, 0xff, 0x0a]), Buffer.from("from a child\n")]));
    assert.deepEqual(runtime.logs, []);
  });
});

test("a reader that is slow gets everything", async () => {
  const code = `exports.handler = () => { for (let i = 0; i < 2000; i += 1) console.log("x".repeat(2000)); return "y".repeat(5_000_000); };`;
  await withRuntime(code, async (runtime) => {
    runtime.socket.pause();
    runtime.send(pack(INVOKE, 1, invokePayload(1)));
    setTimeout(() => runtime.socket.resume(), 100);
    const answer = await runtime.nextAnswer();
    assert.equal(answer.payload.length, 5_000_000);
    assert.equal(runtime.logs.length, 2000);
  });
});
