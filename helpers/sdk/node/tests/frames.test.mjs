// Frames on the wire: however they are cut, whatever is wrong with them, and how the process ends.
import assert from "node:assert/strict";
import test from "node:test";
import {
  CANCEL, ERROR, INIT, INVOKE, PING, PONG, READY, RESULT, STOP, invokePayload, pack, withRuntime, withStarted,
} from "./runtime_process.mjs";

const ECHO = "exports.handler = (event) => event;";
const ASYNC_ECHO = "exports.handler = async (event) => event;";

// A fixed sequence, so that a failure can be repeated.
function chance(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test("dribbled byte by byte", async () => {
  for (const code of [ECHO, ASYNC_ECHO]) {
    await withRuntime(code, async (runtime) => {
      for (const byte of Buffer.concat([pack(INVOKE, 2n ** 64n - 1n, invokePayload([1, "ü"])), pack(PING, 3)])) {
        await new Promise((resolve) => runtime.socket.write(Buffer.from([byte]), resolve));
      }
      // A PONG may overtake the answer of an async handler.
      const answers = [await runtime.nextAnswer(), await runtime.nextAnswer()].sort((a, b) => a.kind - b.kind);
      assert.deepEqual([answers[0].kind, answers[0].id, answers[0].payload], [RESULT, 2n ** 64n - 1n, [1, "ü"]]);
      assert.deepEqual([answers[1].kind, answers[1].id], [PONG, 3n]);
    });
  }
});

test("request ids of all sizes come back", async () => {
  await withRuntime(ECHO, async (runtime) => {
    for (const id of [0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n]) {
      assert.equal((await runtime.call(1, { id })).id, id);
    }
  });
});

test("many in one write, then STOP", async () => {
  for (const code of [ECHO, ASYNC_ECHO]) {
    await withRuntime(code, async (runtime) => {
      const ids = Array.from({ length: 200 }, (_, index) => index + 1);
      runtime.send(...ids.map((id) => pack(INVOKE, id, invokePayload(id))), pack(STOP));
      for (const id of ids) {
        const answer = await runtime.nextAnswer();
        assert.deepEqual([answer.kind, Number(answer.id), answer.payload], [RESULT, id, id]);
      }
      assert.equal(await runtime.nextAnswer(), null);
      assert.equal(await runtime.exitStatus(), 0);
    });
  }
});

test("INIT and INVOKE in one write", async () => {
  await withStarted({ "main.mjs": "export const handler = (event) => event;" }, async (runtime) => {
    await runtime.boot();
    assert.equal((await runtime.init({}, pack(INVOKE, 1, invokePayload("early")), pack(STOP))).kind, READY);
    assert.equal((await runtime.nextAnswer()).payload, "early");
    assert.equal(await runtime.exitStatus(), 0);
  });
});

test("large frames cut at random", async () => {
  const below = chance(7);
  await withRuntime(ECHO, async (runtime) => {
    const events = Array.from({ length: 10 }, () => "x".repeat(below(300_000)));
    const data = Buffer.concat(events.map((event, id) => pack(INVOKE, id, invokePayload(event))));
    for (let start = 0; start < data.length; ) {
      const end = Math.min(data.length, start + 1 + below(100_000));
      runtime.socket.write(data.subarray(start, end));
      start = end;
    }
    for (const event of events) {
      assert.equal((await runtime.nextAnswer()).payload, event);
    }
  });
});

test("STOP waits for what is in flight and runs exit listeners", async () => {
  const code = `const open = []; process.on("exit", () => console.log("bye"));
    exports.handler = (event) => new Promise((resolve) => { open.push(resolve); if (open.length === 2) setTimeout(() => open.forEach((end) => end(1)), 20); });`;
  await withRuntime(code, async (runtime) => {
    runtime.send(pack(INVOKE, 1, invokePayload(1)), pack(INVOKE, 2, invokePayload(2)), pack(STOP));
    assert.equal((await runtime.nextAnswer()).kind, RESULT);
    assert.equal((await runtime.nextAnswer()).kind, RESULT);
    assert.equal(await runtime.nextAnswer(), null);
    assert.equal(await runtime.exitStatus(), 0);
    assert.deepEqual(runtime.logs, [[0, 1, "bye"]]);
  });
});

test("the end of the connection, before and after INIT, with timers running", async () => {
  await withStarted({}, async (runtime) => {
    await runtime.boot();
    runtime.socket.destroy();
    assert.equal(await runtime.exitStatus(), 0);
  });
  await withRuntime(`setInterval(() => {}, 1000); ${ECHO}`, async (runtime) => {
    runtime.socket.destroy();
    assert.equal(await runtime.exitStatus(), 0);
  });
});

test("CANCEL aborts the signal and marks the context", async () => {
  const code = `exports.handler = (event, context) => new Promise((resolve, reject) => {
    context.signal.addEventListener("abort", () => { console.log("aborted"); reject(context.signal.reason); }); });
    exports.looks = async (event, context) => { while (!context.cancelled) await new Promise(setImmediate); return context.signal.aborted; };`;
  await withRuntime(code, async (runtime) => {
    runtime.send(pack(INVOKE, 1, invokePayload(1)), pack(INVOKE, 2, invokePayload(1)), pack(CANCEL, 1), pack(CANCEL, 99));
    const { kind, id, payload } = await runtime.nextAnswer();
    assert.deepEqual([kind, id, payload.type], [ERROR, 1n, "AbortError"]);
    assert.deepEqual(runtime.logs, [[1, 1, "aborted"]]);
    runtime.send(pack(CANCEL, 2));
    assert.equal((await runtime.nextAnswer()).id, 2n);
  });
  await withRuntime(code, async (runtime) => {
    runtime.send(pack(INVOKE, 1, invokePayload(1)), pack(CANCEL, 1));
    assert.equal((await runtime.nextAnswer()).payload, true);
  }, { handler: "main.looks" });
});

/** Sends, closes the sending side, and waits for the end that has to come whatever was sent. */
async function ends(runtime, data) {
  runtime.socket.end(data);
  while ((await runtime.nextAnswer()) !== null);
  return runtime.exitStatus();
}

test("broken frames end the instance", async () => {
  const tooLong = pack(INVOKE, 1);
  tooLong.writeUInt32LE((8 << 20) + 1, 0);
  for (const data of [pack(0x42), pack(0x81), pack(INIT, 0, Buffer.from("{}")), tooLong]) {
    await withRuntime(ECHO, async (runtime) => assert.equal(await ends(runtime, data), 1));
  }
  for (const data of [pack(0x42), pack(INVOKE, 1, invokePayload(1)), pack(INIT, 0, Buffer.from("not json")), pack(INIT, 0, Buffer.from("[]"))]) {
    await withStarted({}, async (runtime) => {
      await runtime.boot();
      assert.equal(await ends(runtime, data), 1);
    });
  }
});

test("short invocations are answered", async () => {
  await withRuntime(ECHO, async (runtime) => {
    for (let size = 0; size < 26; size += 1) {
      runtime.send(pack(INVOKE, size, invokePayload(1).subarray(0, size)));
      const { kind, payload } = await runtime.nextAnswer();
      assert.deepEqual([kind, payload.type], [ERROR, "InvalidEvent"]);
    }
    const longTrace = invokePayload(1);
    longTrace.writeUInt16LE(65535, 24);
    runtime.send(pack(INVOKE, 1, longTrace));
    assert.equal((await runtime.nextAnswer()).payload.type, "InvalidEvent");
  });
});

test("random bytes", async () => {
  const below = chance(2024);
  for (let turn = 0; turn < 30; turn += 1) {
    const parts = [];
    for (let count = 1 + below(5); count > 0; count -= 1) {
      const shape = below(3);
      const body = shape < 2 ? Buffer.from(Array.from({ length: below(60) }, () => below(256))) : invokePayload([below(1000)]);
      const kind = [INIT, INVOKE, CANCEL, PING, below(256)][below(5)];
      parts.push(shape === 0 ? body : pack(kind, BigInt(below(2 ** 32)) << 31n, body));
    }
    const run = async (runtime) => assert.ok([0, 1].includes(await ends(runtime, Buffer.concat(parts))));
    if (turn % 2 === 1) {
      await withRuntime(turn % 4 === 1 ? ECHO : ASYNC_ECHO, run);
    } else {
      await withStarted({ "main.js": ECHO }, async (runtime) => {
        await runtime.boot();
        await run(runtime);
      });
    }
  }
});
