// Functions that call helpers over their own socket: values, refusals, many at once, and calls that nobody waits for.
import assert from "node:assert/strict";
import test from "node:test";
import { CANCEL, ERROR, INVOKE, READY, RESULT, invokePayload, pack, withRuntime, withStarted } from "./runtime_process.mjs";

const BOUND = { helpers: ["geo", "audit"] };
const CALLER = `
  const { HelperError } = require("raas");
  exports.handler = async ({ args = [{}], method = "route" }, context) => {
    try {
      return { value: await context.helper("geo")[method](...args) };
    } catch (thrown) {
      const { name, type, message, code, origin, retryable, error } = thrown;
      return { name, type, message, code, origin, retryable, error, isHelperError: thrown instanceof HelperError };
    }
  };
`;

/** What the platform says of a refusal. */
function refusal(message, code, origin, more = {}) {
  return { type: "HelperError", message, code, origin, retryable: false, ...more };
}

test("a call sends named arguments and resolves with the value", async () => {
  await withRuntime(CALLER, async (runtime) => {
    runtime.send(pack(INVOKE, 7, invokePayload({ args: [{ src: "SEA", via: ["PDX", "ü"] }] })));
    const { request, operation, target, body, ...call } = await runtime.nextCall();
    assert.deepEqual([request, operation, target], [7, "method", "geo/route"]);
    assert.deepEqual(JSON.parse(body), { src: "SEA", via: ["PDX", "ü"] });
    runtime.answer(call, { km: [1, 2.5], note: "grüße" });
    assert.deepEqual((await runtime.nextAnswer()).payload, { value: { km: [1, 2.5], note: "grüße" } });
    // No argument at all is no named argument.
    runtime.send(pack(INVOKE, 8, invokePayload({ args: [] })));
    const bare = await runtime.nextCall();
    assert.equal(bare.body.toString(), "{}");
    runtime.answer(bare, null);
    assert.deepEqual((await runtime.nextAnswer()).payload, { value: null });
  }, BOUND);
});

test("a refusal is a HelperError with the platform's fields", async () => {
  const thrown = { type: "KeyError", message: "no such airport", stack: "at route (main.js:3)" };
  const refusals = [
    refusal("the helper failed", "helper-error", "helper", { error: thrown }),
    refusal("too busy", "overloaded", "platform", { retryable: true }),
  ];
  await withRuntime(CALLER, async (runtime) => {
    for (const fields of refusals) {
      runtime.send(pack(INVOKE, 1, invokePayload({})));
      runtime.refuse(await runtime.nextCall(), fields);
      const expected = { name: "HelperError", isHelperError: true, error: null, ...fields };
      assert.deepEqual((await runtime.nextAnswer()).payload, expected);
    }
  }, BOUND);
});

test("an uncaught HelperError is the function's own failure, with the line that called", async () => {
  const code = `exports.handler = async (event, context) => {
    return await context.helper("geo").route({});
  };`;
  await withRuntime(code, async (runtime) => {
    runtime.send(pack(INVOKE, 1, invokePayload(null)));
    runtime.refuse(await runtime.nextCall(), refusal("bad src", "wrong-arguments", "caller"));
    const { kind, payload } = await runtime.nextAnswer();
    assert.deepEqual([kind, payload.type, payload.message], [ERROR, "HelperError", "bad src"]);
    assert.equal(payload.code, undefined, "who called the function is not at fault");
    assert.match(payload.stack, /main\.js:2/);
    assert.ok(!/raas\//.test(payload.stack), payload.stack);
  }, BOUND);
});

test("arguments that are not one object are refused before the platform is asked", async () => {
  const code = `exports.handler = async (event, context) => {
    const circle = {}; circle.me = circle;
    const noObject = [["SEA", "PDX"], ["SEA"], [null], [undefined], [["SEA"]], [{}, {}], [new Date()]];
    const wrong = [...noObject, [Buffer.from("x")], [circle], [{ n: NaN }], [{ n: 1n }]];
    const outcomes = await Promise.allSettled(wrong.map((args) => context.helper("geo").route(...args)));
    return outcomes.map(({ reason }) => [reason?.name, reason?.code, reason?.origin, reason?.message]);
  };`;
  await withRuntime(code, async (runtime) => {
    const outcomes = (await runtime.call(null)).payload;
    const messages = outcomes.map(([name, code, origin, message]) => {
      assert.deepEqual([name, code, origin], ["HelperError", "wrong-arguments", "caller"], message);
      return message;
    });
    messages.slice(0, 7).forEach((message) => assert.equal(message, "geo/route takes one object of named arguments"));
    [/type Buffer/, /circular/, /NaN/, /BigInt/].forEach((part, index) => assert.match(messages[7 + index], part));
  }, BOUND);
});

test("a helper that is not bound", async () => {
  const code = `exports.handler = (name, context) => {
    try { context.helper(name); } catch (error) { return [error.name, error.type, error.code, error.origin, error.message]; }
  };`;
  const see = "see [helpers] in the manifest";
  await withRuntime(code, async (runtime) => {
    const message = `no helper is bound by the name "goe"; bound are: geo, audit; ${see}`;
    assert.deepEqual((await runtime.call("goe")).payload, ["HelperError", "NotBound", "not-bound", "caller", message]);
    assert.equal((await runtime.call("toString")).payload[2], "not-bound");
  }, BOUND);
  await withRuntime(code, async (runtime) => {
    assert.equal((await runtime.call("geo")).payload[4], `no helper is bound by the name "geo"; nothing is bound; ${see}`);
  });
});

test("a bound helper can be awaited, shown and compared like any object", async () => {
  const code = `exports.handler = async (event, context) => {
    const geo = await context.helper("geo");
    const shown = [require("node:util").inspect(geo) !== "", String(geo), JSON.stringify({ geo })];
    return [geo === context.helper("geo"), geo.route === geo.route, typeof geo.then, ...shown];
  };`;
  await withRuntime(code, async (runtime) => {
    assert.deepEqual((await runtime.call(null)).payload, [true, true, "undefined", true, "[object Object]", '{"geo":{}}']);
  }, BOUND);
});

test("several calls at once are answered in any order, and each goes to who asked", async () => {
  const code = `exports.handler = (event, context) =>
    Promise.all(event.map((n) => context.helper(n % 2 ? "geo" : "audit").route({ n }).then((value) => [n, value])));`;
  await withRuntime(code, async (runtime) => {
    runtime.send(pack(INVOKE, 1, invokePayload([1, 2, 3])), pack(INVOKE, 2, invokePayload([4, 5, 6])));
    const calls = [];
    for (let count = 0; count < 6; count += 1) {
      calls.push(await runtime.nextCall());
    }
    assert.equal(new Set(calls.map(({ id }) => id)).size, 6);
    assert.ok(calls.every(({ id }) => id > 0n));
    assert.deepEqual(calls.map(({ request }) => request), [1, 1, 1, 2, 2, 2]);
    assert.deepEqual(calls.map(({ target }) => target.split("/")[0]), ["geo", "audit", "geo", "audit", "geo", "audit"]);
    for (const call of calls.reverse()) {
      runtime.answer(call, `answer ${JSON.parse(call.body).n}`);
    }
    const answers = [await runtime.nextAnswer(), await runtime.nextAnswer()];
    assert.deepEqual(answers.map(({ id, payload }) => [Number(id), payload]), [
      [2, [[4, "answer 4"], [5, "answer 5"], [6, "answer 6"]]], [1, [[1, "answer 1"], [2, "answer 2"], [3, "answer 3"]]],
    ]);
  }, BOUND);
});

test("beyond 1,000 calls in flight the next ones wait for their turn", async () => {
  const code = `exports.handler = async (count, context) => {
    const values = await Promise.all(Array.from({ length: count }, (_, n) => context.helper("geo").route({ n })));
    return values.every((value, n) => value === n);
  };`;
  await withRuntime(code, async (runtime) => {
    runtime.send(pack(INVOKE, 1, invokePayload(1002)), pack(INVOKE, 2, invokePayload(0)));
    const calls = [];
    for (let count = 0; count < 1000; count += 1) {
      calls.push(await runtime.nextCall());
    }
    assert.deepEqual((await runtime.nextAnswer()).payload, true, "the 1,001st was not sent, the other request is answered");
    const reply = (call) => runtime.answer(call, JSON.parse(call.body).n);
    calls.splice(0, 2).forEach(reply);
    calls.push(await runtime.nextCall(), await runtime.nextCall());
    calls.forEach(reply);
    assert.deepEqual((await runtime.nextAnswer()).payload, true);
  }, BOUND);
});

test("CANCEL fails the calls of its request and of no other", async () => {
  await withRuntime(CALLER, async (runtime) => {
    runtime.send(pack(INVOKE, 1, invokePayload({})), pack(INVOKE, 2, invokePayload({})));
    const [, second] = [await runtime.nextCall(), await runtime.nextCall()];
    runtime.send(pack(CANCEL, 1));
    const { id, payload } = await runtime.nextAnswer();
    assert.deepEqual([id, payload.code, payload.origin], [1n, "cancelled", "caller"]);
    runtime.answer(second, "there");
    assert.deepEqual((await runtime.nextAnswer()).payload, { value: "there" });
  }, BOUND);
});

test("calls that nobody waits for end neither the process nor another request", async () => {
  const code = `let shared = null;
    exports.handler = async (event, context) => {
      shared ??= context.helper("geo").route({});
      if (event === "leave") return "left";
      return shared.then(String, (error) => error.code);
    };`;
  await withRuntime(code, async (runtime) => {
    runtime.send(pack(INVOKE, 1, invokePayload("leave")));
    const call = await runtime.nextCall();
    const answer = await runtime.nextAnswer();
    assert.deepEqual([answer.kind, answer.payload], [RESULT, "left"]);
    runtime.answer(call, "too late");
    assert.equal((await runtime.call("wait", { id: 2 })).payload, "cancelled");
  }, BOUND);
});

test("what cannot be sent or read is a HelperError too", async () => {
  const code = `exports.handler = (event, context) =>
    context.helper("geo").route({ text: "x".repeat(9 << 20) }).catch((error) => [error.name, error.code, error.origin]);`;
  await withRuntime(code, async (runtime) => {
    assert.deepEqual((await runtime.call(null)).payload, ["HelperError", "too-large", "caller"]);
  }, BOUND);
  await withRuntime(CALLER, async (runtime) => {
    runtime.send(pack(INVOKE, 1, invokePayload({})));
    runtime.answer(await runtime.nextCall(), Buffer.from("{"));
    const { payload } = await runtime.nextAnswer();
    assert.deepEqual([payload.name, payload.code, payload.origin], ["HelperError", "internal", "platform"]);
  }, BOUND);
});

test("ES modules and late imports get the same errors", async () => {
  const modules = {
    "main.mjs": `import { HelperError } from "raas";
      export const handler = (event, context) =>
        context.helper("geo").route(1).catch((error) => error instanceof HelperError);`,
    "main.js": `exports.handler = async (event, context) => {
      const { HelperError } = await import("raas");
      const isSame = HelperError === require("raas").HelperError;
      return context.helper("geo").route(1).catch((error) => isSame && error instanceof HelperError);
    };`,
  };
  for (const [file, code] of Object.entries(modules)) {
    await withRuntime({ [file]: code }, async (runtime) => {
      assert.equal((await runtime.call(null)).payload, true, file);
    }, BOUND);
  }
});

test("a helper calls another by this.helper, and its errors are no fault of the caller", async () => {
  const code = `exports.Geo = class extends require("raas").Helper {
    async start() { this.map = await this.helper("audit").load({ name: "map" }); }
    async route({ src }) { return [this.map, await this.helper("geo").near({ src })]; }
    lost() { return this.helper("unknown"); }
  };`;
  await withStarted({ "main.js": code }, async (runtime) => {
    await runtime.boot();
    const { payload: load, id } = await runtime.init({ handler: "main:Geo", helper: {}, ...BOUND });
    assert.deepEqual([load.request, load.target], [0, "audit/load"]);
    runtime.answer({ id }, "the map");
    assert.equal((await runtime.nextAnswer()).kind, READY);
    runtime.startMethod("route", { src: "SEA" }, 2);
    runtime.answer(await runtime.nextCall(), "near");
    assert.deepEqual((await runtime.nextAnswer()).payload, ["the map", "near"]);
    runtime.startMethod("route", { src: "SEA" }, 3);
    const call = await runtime.nextCall();
    assert.deepEqual([call.request, call.target, JSON.parse(call.body)], [3, "geo/near", { src: "SEA" }]);
    runtime.refuse(call, refusal("no src", "wrong-arguments", "caller"));
    const { kind, payload } = await runtime.nextAnswer();
    assert.deepEqual([kind, payload.type, payload.code], [ERROR, "HelperError", undefined]);
    const { message } = (await runtime.call({ method: "lost" })).payload;
    assert.match(message, /no helper is bound by the name "unknown"; bound are: geo, audit/);
  });
});
