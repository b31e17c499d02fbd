// A helper's state: what a call writes is committed once, before its answer, or not at all. And state in memory.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import sdk from "../raas/index.cjs";
import { CALL, ERROR, RESULT, readCommit, withHelper } from "./runtime_process.mjs";

const { Helper, HelperError, StateError } = sdk;
const SDK_FOLDER = path.join(path.dirname(path.dirname(fileURLToPath(import.meta.url))), "raas");
const NOTHING = Buffer.alloc(0);
const FULL = { type: "StateError", message: "the state is full", code: "state-quota", origin: "helper", retryable: false };

/** A helper whose one method `run` has the given body. */
function helperThat(body) {
  return `exports.Geo = class Geo extends require("raas").Helper {
    async run({ n } = {}) { const state = this.state; ${body} }
  };`;
}

test("reads ask the platform; bytes, JSON and nothing come back as such", async () => {
  const code = helperThat(`
    const bytes = await state.get("bytes");
    return [Buffer.isBuffer(bytes), [...bytes], await state.get("json"), await state.get("null", 7), await state.get("none"),
      await state.get("none", 7), await state.list("a/"), await state.list("", 3)];`);
  await withHelper(code, async (runtime) => {
    runtime.startMethod("run", {}, 9);
    const values = [["bytes", "b\x00\x01"], ["json", 'j{"a":[1,"ü"]}'], ["null", "jnull"], ["none", ""], ["none", ""]];
    for (const [key, value] of values) {
      const get = await runtime.nextCall();
      assert.deepEqual([get.request, get.operation, get.target, get.body.length], [9, "get", key, 0]);
      runtime.answer(get, Buffer.from(value));
    }
    for (const [prefix, limit, keys] of [["a/", 100, ["a/1", "a/2"]], ["", 3, []]]) {
      const list = await runtime.nextCall();
      assert.deepEqual([list.operation, list.target, list.body.length], ["list", prefix, 4]);
      assert.equal(list.body.readUInt32LE(0), limit);
      runtime.answer(list, keys);
    }
    const { kind, payload } = await runtime.nextAnswer();
    assert.equal(kind, RESULT);
    assert.deepEqual(payload, [true, [0, 1], { a: [1, "ü"] }, null, null, 7, ["a/1", "a/2"], []]);
  });
});

test("one commit, in the contract's layout, comes before the result", async () => {
  const code = helperThat(`
    await state.put("ü", { a: 1 }); await state.delete("gone"); await state.put("b", Buffer.from([0, 255]), { ttl_s: 1.5 });
    await state.put("u", new Uint8Array([7]), { ttl_s: 0.0001 }); await state.put("twice", 1); await state.put("twice", 2);
    return "done";`);
  await withHelper(code, async (runtime) => {
    runtime.startMethod("run", {}, 4);
    const commit = await runtime.nextCall();
    assert.deepEqual([commit.request, commit.operation, commit.target], [4, "commit", ""]);
    const put = (key, ttlMs, value) => [1, key.length, 0, ...key, ttlMs & 0xff, ttlMs >> 8, 0, 0, 0, 0, 0, 0, ...value];
    assert.deepEqual([...commit.body], [
      ...put([0xc3, 0xbc], 0, [0x6a, 7, 0, 0, 0, ...Buffer.from('{"a":1}')]),
      2, 4, 0, ...Buffer.from("gone"),
      ...put([0x62], 1500, [0x62, 2, 0, 0, 0, 0, 255]),
      ...put([0x75], 1, [0x62, 1, 0, 0, 0, 7]),
      ...put(Buffer.from("twice"), 0, [0x6a, 1, 0, 0, 0, ...Buffer.from("2")]),
    ]);
    runtime.answer(commit);
    const { kind, payload } = await runtime.nextAnswer();
    assert.deepEqual([kind, payload], [RESULT, "done"]);
  });
});

test("a call sees its own writes before anybody else does", async () => {
  const code = helperThat(`
    const value = { list: [1] };
    await state.put("a/new", value); value.list.push(2);
    await state.put("a/old", new Uint8Array([1])); await state.delete("a/gone"); await state.put("b/other", 1);
    const read = await state.get("a/new"); read.list.push(3);
    const old = [...await state.get("a/old")];
    return [await state.get("a/new"), old, await state.get("a/gone", "none"), await state.list("a/", 3)];`);
  await withHelper(code, async (runtime) => {
    runtime.startMethod("run");
    const list = await runtime.nextCall();
    assert.deepEqual([list.operation, list.body.readUInt32LE(0)], ["list", 4], "one more for the one that was deleted");
    runtime.answer(list, ["a/gone", "a/old", "a/x", "a/y"]);
    const commit = await runtime.nextCall();
    assert.equal(readCommit(commit.body).length, 4);
    runtime.answer(commit);
    assert.deepEqual((await runtime.nextAnswer()).payload, [{ list: [1] }, [1], "none", ["a/new", "a/old", "a/x"]]);
  });
});

test("nothing is committed when the method throws or its result is none", async () => {
  const failures = {
    "throw new RangeError('no luck');": "RangeError",
    "return 1n;": "ResultNotSerializable",
    "return 'x'.repeat(7 << 20);": "ResponseTooLarge",
  };
  for (const [end, type] of Object.entries(failures)) {
    await withHelper(helperThat(`await state.put("k", 1); ${end}`), async (runtime) => {
      // Would be a CALL if anything was committed.
      const { kind, payload } = await runtime.call({ method: "run" });
      assert.deepEqual([kind, payload.type], [ERROR, type]);
    });
  }
});

test("a refused commit or read is the method's error", async () => {
  await withHelper(helperThat(`await state.put("k", 1); return "never told";`), async (runtime) => {
    runtime.startMethod("run");
    runtime.refuse(await runtime.nextCall(), FULL);
    const { kind, payload } = await runtime.nextAnswer();
    assert.deepEqual([kind, payload.type, payload.message, payload.code], [ERROR, "StateError", FULL.message, undefined]);
  });
  const code = helperThat(`try { await state.get("k"); } catch (error) {
    return [error instanceof require("raas").StateError, error.code, error.origin, error.retryable, error.message]; }`);
  await withHelper(code, async (runtime) => {
    runtime.startMethod("run");
    runtime.refuse(await runtime.nextCall(), { ...FULL, code: "state-unavailable", origin: "platform", retryable: true });
    assert.deepEqual((await runtime.nextAnswer()).payload, [true, "state-unavailable", "platform", true, FULL.message]);
  });
});

test("concurrent calls keep their writes apart", async () => {
  const code = helperThat(`
    await state.put("own", n);
    await state.get("pause");
    await Promise.all([1, 2].map(async (part) => { await null; await state.put(n + "/" + part, part); }));
    return [n, await state.get("own")];`);
  await withHelper(code, async (runtime) => {
    runtime.startMethod("run", { n: 1 }, 1);
    runtime.startMethod("run", { n: 2 }, 2);
    const pauses = [await runtime.nextCall(), await runtime.nextCall()];
    assert.deepEqual(pauses.map(({ operation, target }) => [operation, target]), [["get", "pause"], ["get", "pause"]]);
    for (const pause of pauses.reverse()) {
      runtime.answer(pause, NOTHING);
      const commit = await runtime.nextCall();
      const n = pause.request;
      assert.equal(commit.request, n);
      const written = readCommit(commit.body).map(([key, , value]) => [key, value]);
      assert.deepEqual(written, [["own", String(n)], [`${n}/1`, "1"], [`${n}/2`, "2"]]);
      runtime.answer(commit);
      assert.deepEqual((await runtime.nextAnswer()).payload, [n, n]);
    }
  });
});

test("what goes on after its answer commits by itself", async () => {
  const code = helperThat(`
    if (n === 1) { new Promise((go) => { this.go = go; }).then(() => state.put("late", 1)); } else { this.go(); }
    return n;`);
  await withHelper(code, async (runtime) => {
    assert.equal((await runtime.call({ method: "run", args: { n: 1 } })).payload, 1);
    runtime.startMethod("run", { n: 2 }, 2);
    const frames = [await runtime.nextAnswer(), await runtime.nextAnswer()];
    const { payload } = frames.find(({ kind }) => kind === CALL);
    assert.deepEqual([payload.request, readCommit(payload.body)], [0, [["late", "j", "1", 0]]]);
    assert.equal(frames.find(({ kind }) => kind === RESULT).payload, 2);
  });
});

const LIMITS = {
  'state.put("", 1)': ["invalid-key", /1 to 512 bytes, not 0/],
  'state.put("ü".repeat(257), 1)': ["invalid-key", /not 514/],
  "state.get(3)": ["invalid-key", /text, not number/],
  'state.delete("a\\ud800")': ["invalid-key", /lone surrogate/],
  'state.put("k", "x".repeat(1 << 20))': ["value-too-large", /"k" is 1048578 bytes/],
  'state.put("k", { n: NaN })': ["not-serializable", /"k".*NaN/],
  'state.put("k", undefined)': ["not-serializable", /undefined/],
  'state.put("k", 1, 60)': ["invalid-ttl", /\{ ttl_s \}/],
  'state.put("k", 1, { ttl_s: 0 })': ["invalid-ttl", /above 0, not 0/],
  'state.put("k", 1, { ttl_s: "1" })': ["invalid-ttl", /not 1/],
  'state.list("", 0)': ["invalid-limit", /1 to 1000/],
  'state.list("", 1001)': ["invalid-limit", /not 1001/],
  "state.list(7)": ["invalid-key", /prefix is text/],
};

test("keys, values and limits are checked, with the platform and without it alike", async () => {
  const code = helperThat(`const outcomes = [];
    for (const attempt of [${Object.keys(LIMITS).map((text) => `() => ${text}`)}]) {
      outcomes.push(await attempt().then(() => "done", ({ name, code, origin, message }) => [name, code, origin, message]));
    }
    return outcomes;`);
  const check = (outcomes) => Object.entries(LIMITS).forEach(([text, [code, message]], index) => {
    assert.deepEqual(outcomes[index].slice(0, 3), ["StateError", code, "helper"], text);
    assert.match(outcomes[index][3], message);
  });
  await withHelper(code, async (runtime) => check((await runtime.call({ method: "run" })).payload));
  const loaded = { exports: {} };
  new Function("exports", "require", code)(loaded.exports, () => sdk);
  check(await new loaded.exports.Geo().run());
});

test("a commit has its limits", async () => {
  const code = helperThat(`const codes = [];
    try {
      for (let i = 0; i < n; i += 1) await state.put("k" + i, n > 10 ? i : "x".repeat(1_000_000));
    } catch (error) { codes.push(error.code, error.message); }
    return codes;`);
  await withHelper(code, async (runtime) => {
    const attempts = [[1000, 1000, null], [1001, 1000, /at most 1000 keys/], [5, 4, /over the limit of 4194304/]];
    for (const [n, writes, message] of attempts) {
      runtime.startMethod("run", { n });
      const commit = await runtime.nextCall();
      assert.equal(readCommit(commit.body).length, writes);
      runtime.answer(commit);
      const { payload } = await runtime.nextAnswer();
      if (message === null) {
        assert.deepEqual(payload, []);
      } else {
        assert.equal(payload[0], "commit-too-large");
        assert.match(payload[1], message);
      }
    }
  });
});

test("without the platform: state in memory, settings from the test", async () => {
  class Counter extends Helper {
    async add({ key, by = 1 }) {
      const value = (await this.state.get(key, 0)) + by;
      await this.state.put(key, value, { ttl_s: this.config.ttl_s });
      return value;
    }
  }
  const counter = new Counter({ config: { ttl_s: 60 }, dir: "/tmp/private", dataVersion: 2, purpose: "train" });
  assert.deepEqual([counter.dir, counter.dataVersion, counter.purpose], ["/tmp/private", 2, "train"]);
  assert.deepEqual([await counter.add({ key: "k" }), await counter.add({ key: "k", by: 4 })], [1, 5]);
  assert.equal(await new Counter().state.get("k"), null, "every object has a state of its own");
  assert.throws(() => counter.helper("geo"), (error) => error instanceof HelperError && error.code === "not-bound");

  const { state } = counter;
  const bytes = new Uint8Array([1, 2]);
  await state.put("bytes", bytes);
  bytes[0] = 9;
  assert.deepEqual(await state.get("bytes"), Buffer.from([1, 2]));
  const value = { list: [1] };
  await state.put("json", value);
  value.list.push(2);
  assert.deepEqual(await state.get("json"), { list: [1] });
  // In the order of UTF-8 bytes, which is not that of UTF-16.
  for (const key of ["z/\u{1f600}", "z/\uffee", "z/a"]) {
    await state.put(key, null);
  }
  assert.deepEqual(await state.list("z/"), ["z/a", "z/\uffee", "z/\u{1f600}"]);
  assert.deepEqual(await state.list("", 2), ["bytes", "json"]);
  await state.delete("json");
  await state.delete("never there");
  assert.deepEqual(await state.list("j"), []);
  assert.equal(await state.get("z/a", "otherwise"), null, "a null that was put is there");
  await assert.rejects(state.put("k", 1n), StateError);

  const { now } = Date;
  try {
    Date.now = () => now() + 59_000;
    assert.equal(await state.get("k"), 5);
    Date.now = () => now() + 61_000;
    assert.equal(await state.get("k"), null);
    assert.deepEqual(await state.list("k"), []);
  } finally {
    Date.now = now;
  }
});

test("an author's test finds the SDK as an installed package", () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "raas-sdk-test-"));
  try {
    fs.mkdirSync(path.join(folder, "node_modules"));
    fs.symlinkSync(SDK_FOLDER, path.join(folder, "node_modules", "raas"));
    const geo = `import { Helper } from "raas"; export class Geo extends Helper { here() { return "here"; } }`;
    fs.writeFileSync(path.join(folder, "geo.mjs"), geo);
    const file = path.join(folder, "test.mjs");
    fs.writeFileSync(file, `import { Geo } from "./geo.mjs"; import { createRequire } from "node:module";
      console.log(new Geo().here(), new Geo() instanceof createRequire(import.meta.url)("raas").Helper);`);
    const { stdout, stderr } = spawnSync(process.execPath, [file], { encoding: "utf8", timeout: 20_000 });
    assert.equal(stdout, "here true\n", stderr);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
});
