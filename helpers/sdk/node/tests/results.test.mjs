// What a handler's value becomes, and what it is given: JSON in, JSON out, or a clear reason why not.
import assert from "node:assert/strict";
import test from "node:test";
import { ERROR, RESULT, withRuntime } from "./runtime_process.mjs";

const VALUES = `
  const cycle = {}; cycle.me = cycle;
  let deep = []; for (let i = 0; i < 100000; i += 1) deep = [deep];
  const values = {
    undefined, null: null, text: "grüße \\u2028 \\u{1f600}", holes: { a: undefined, b: null }, date: new Date(0),
    literal: "\\\\ud800", nan: { list: [1, NaN] }, infinity: { deep: { x: -Infinity } }, top: NaN, cycle, deep, big: 1n,
    bytes: Buffer.from("x"), array: new Uint8Array(2), function: () => 1, symbol: Symbol("s"),
    surrogate: "a\\ud800", key: { "\\udfff": 1 }, escaped: "\\\\\\\\\\ud800",
    json: { toJSON() { throw new Error("own toJSON"); } },
    nearly: "x".repeat((6 << 20) - 2), over: "x".repeat((6 << 20) - 1), overUtf8: "ü".repeat(4 << 20),
    thenable: { then(resolve) { resolve("late"); } },
  };
  exports.handler = (event) => values[event];
`;

test("values", async () => {
  await withRuntime(VALUES, async (runtime) => {
    const expected = {
      undefined: null, null: null, text: "grüße \u2028 \u{1f600}", holes: { b: null }, date: "1970-01-01T00:00:00.000Z", literal: "\\ud800",
      thenable: "late",
    };
    for (const [event, value] of Object.entries(expected)) {
      const answer = await runtime.call(event);
      assert.equal(answer.kind, RESULT, event);
      assert.deepEqual(answer.payload, value, event);
    }
    const refused = {
      nan: "item 1 is NaN", infinity: '"x" is -Infinity', top: "the result is NaN", cycle: "circular", deep: "Maximum call stack", big: "BigInt",
      bytes: "type Buffer", array: "type Uint8Array", function: "a function", symbol: "a symbol", surrogate: "lone surrogate",
      key: "lone surrogate", escaped: "lone surrogate", json: "own toJSON",
    };
    for (const [event, part] of Object.entries(refused)) {
      const { kind, payload } = await runtime.call(event);
      assert.equal(kind, ERROR, event);
      assert.equal(payload.type, "ResultNotSerializable", event);
      assert.ok(payload.message.includes(part), `${event}: ${payload.message}`);
    }
    assert.equal((await runtime.call("nearly")).payload.length, (6 << 20) - 2);
    for (const [event, size] of [["over", (6 << 20) + 1], ["overUtf8", (8 << 20) + 2]]) {
      const { kind, payload } = await runtime.call(event);
      assert.equal(kind, ERROR);
      assert.equal(payload.type, "ResponseTooLarge");
      assert.ok(payload.message.includes(String(size)), payload.message);
    }
    assert.equal((await runtime.call("null")).kind, RESULT, "the instance goes on");
  });
});

test("events", async () => {
  await withRuntime("exports.handler = async (event) => event;", async (runtime) => {
    const large = { text: "ü".repeat(1_000_000), list: Array.from({ length: 100_000 }, (_, index) => index) };
    for (const event of [null, true, 0, "", [], {}, { a: { b: [1, 2.5, "x"] } }, "x".repeat(200_000), large]) {
      assert.deepEqual((await runtime.call(event)).payload, event);
    }
    for (const text of ["", "{", "1 2", "NaN", "nul"]) {
      const { kind, payload } = await runtime.call(Buffer.from(text), { raw: true });
      assert.equal(kind, ERROR);
      assert.equal(payload.type, "InvalidEvent");
    }
  });
});

test("context", async () => {
  const code = `exports.handler = (event, context) => {
    const names = ["invocation_id", "function_name", "function_version", "memory_mb", "deadline_ms", "traceparent", "tracestate", "cancelled"];
    return [names.map((name) => context[name]), context.get_remaining_time_in_millis(), context.getRemainingTimeInMillis(),
      context.signal instanceof AbortSignal, context.signal.aborted];
  };`;
  await withRuntime(code, async (runtime) => {
    const { payload } = await runtime.call(null, { deadlineMs: 2 ** 52, trace: "00-ab-cd-01\nvendor=1" });
    assert.deepEqual(payload[0], ["00112233-4455-6677-8899-aabbccddeeff", "tested", "7", 256, 2 ** 52, "00-ab-cd-01", "vendor=1", false]);
    assert.ok(payload[1] > 2 ** 51 && payload[2] > 2 ** 51);
    assert.deepEqual(payload.slice(3), [true, false]);
    const late = (await runtime.call(null, { deadlineMs: 1 })).payload;
    assert.deepEqual([late[0][5], late[0][6], late[1]], ["", "", 0]);
  });
});
