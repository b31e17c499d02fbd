// Persistent helpers in the real runtime: how a class is found, what READY says of it, its methods, its hooks.
import assert from "node:assert/strict";
import test from "node:test";
import {
  CANCEL, ERROR, INIT_FAILED, INVOKE, PING, PONG, READY, RESULT, STOP,
  invokePayload, pack, readCommit, withHelper, withStarted,
} from "./runtime_process.mjs";

const NOTHING = Buffer.alloc(0);
const GEO = `
  const { Helper, WrongArguments } = require("raas");
  class Base extends Helper {
    inherited() { return "from the base"; }
    health() { return true; }
  }
  exports.Geo = class Geo extends Base {
    route({ src, dst = "nowhere" }, context) { return [src, dst, context.invocation_id]; }
    async later({ by }) { await null; return by; }
    strict({ n }) { if (typeof n !== "number") throw new WrongArguments("n has to be a number"); return n; }
    broken() { throw new RangeError("the map is torn"); }
    facts() { return [this.config, this.dir, this.dataVersion, this.purpose]; }
    config() { return "hidden by the configuration"; }
    *candidates() {}
    stop() {}
    get property() { return () => 1; }
    static make() {}
    _private() {}
    #hidden() {}
  };
`;

test("READY tells the methods and hooks that a class has", async () => {
  await withHelper(GEO, async (runtime, ready) => {
    assert.deepEqual(ready.methods, ["broken", "facts", "inherited", "later", "route", "strict"]);
    assert.deepEqual(ready.hooks, ["candidates", "health", "stop"]);
    assert.ok(ready.init_us > 0);
  });
});

test("methods get one object of named arguments and the context", async () => {
  const facts = { config: { hub: "SEA" }, dir: "/var/state", data_version: 3, purpose: "train" };
  await withHelper(GEO, async (runtime) => {
    const route = await runtime.call({ method: "route", args: { src: "SEA" } });
    assert.deepEqual(route.payload, ["SEA", "nowhere", "00112233-4455-6677-8899-aabbccddeeff"]);
    assert.deepEqual((await runtime.call({ method: "later", args: { by: 4 } })).payload, 4);
    assert.equal((await runtime.call({ method: "inherited" })).payload, "from the base");
    assert.deepEqual((await runtime.call({ method: "facts" })).payload, [{ hub: "SEA" }, "/var/state", 3, "train"]);
  }, facts);
});

test("errors say whether the caller is at fault", async () => {
  await withHelper(GEO, async (runtime) => {
    const fails = async (event) => {
      const { kind, payload } = await runtime.call(event);
      assert.equal(kind, ERROR, JSON.stringify(event));
      return payload;
    };
    const none = ["nothing", "_private", "constructor", "toString", "start", "stop", "property", "make", "config", null];
    for (const method of none) {
      const { code, message } = await fails({ method, args: {} });
      assert.equal(code, "unknown-method", String(method));
      assert.match(message, /it has: broken, facts, inherited, later, route, strict$/);
    }
    for (const args of [["SEA"], "SEA", 3]) {
      const { code, message } = await fails({ method: "route", args });
      assert.equal(code, "wrong-arguments");
      assert.match(message, /route takes one object of named arguments, not/);
    }
    const strict = await fails({ method: "strict", args: { n: "3" } });
    assert.deepEqual([strict.code, strict.type], ["wrong-arguments", "WrongArguments"]);
    assert.equal(strict.message, "n has to be a number");
    assert.match(strict.stack, /at (Geo\.)?strict \(main\.js/);
    const broken = await fails({ method: "broken" });
    assert.deepEqual([broken.code, broken.type, broken.message], [undefined, "RangeError", "the map is torn"]);
    assert.equal((await fails({ hook: "no-such-hook" })).type, "UnknownHook");
  });
});

const IMPORT = 'import { Helper } from "raas";';
const CLASS = "class Geo extends Helper { hello({ name }) { return 'hello, ' + name; } }";
const MODULES = {
  "CommonJS export": { "main.js": `const { Helper } = require("raas"); exports.Geo = ${CLASS}` },
  "CommonJS, the class itself": { "main.js": `module.exports = ${CLASS.replace("Helper", "require('raas').Helper")};` },
  "ES module export": { "main.mjs": `${IMPORT} export ${CLASS}` },
  "ES module default": { "main.mjs": `${IMPORT} export default ${CLASS}` },
  "ES module, default import": { "main.mjs": `import raas from "raas"; const { Helper } = raas; export ${CLASS}` },
  "ES module by package type": { "package.json": '{"type":"module"}', "main.js": `${IMPORT} export ${CLASS}` },
  "ES module by its syntax": { "main.js": `${IMPORT} export ${CLASS}` },
  "ES module, imported by another": {
    "main.mjs": "export * from './lib/geo.mjs';",
    "lib/geo.mjs": `${IMPORT} export ${CLASS}`,
  },
  "ES module that extends a class from CommonJS": {
    "main.mjs": `${IMPORT} import geo from "./geo.cjs"; export class Geo extends geo.Geo {}
      if (!(Geo.prototype instanceof Helper)) throw new Error("two SDKs");`,
    "geo.cjs": `const { Helper } = require("raas"); exports.Geo = ${CLASS}`,
  },
};
for (const [name, files] of Object.entries(MODULES)) {
  // Node 18 takes a .js file for CommonJS whatever is in it.
  const skip = name === "ES module by its syntax" && process.versions.node.startsWith("18.");
  test(`a class from: ${name}`, { skip }, async () => {
    await withHelper(files, async (runtime, ready) => {
      assert.deepEqual(ready.methods, ["hello"]);
      assert.equal((await runtime.call({ method: "hello", args: { name: "Ann" } })).payload, "hello, Ann");
    });
  });
}

test("the platform's SDK comes before a package of the same name", async () => {
  const files = {
    "main.mjs": `${IMPORT} export ${CLASS}`,
    "node_modules/raas/package.json": '{"name":"raas","exports":"./index.js"}',
    "node_modules/raas/index.js": "exports.Helper = class {};",
  };
  await withHelper(files, async (runtime, ready) => assert.deepEqual(ready.methods, ["hello"]));
});

const FAILURES = {
  "start throws": ["start() { throw new TypeError('no map'); }", "TypeError", /^no map$/, /at (Geo\.)?start \(main\.js:1/],
  "start rejects": ["async start() { await null; throw new TypeError('no map'); }", "TypeError", /^no map$/, /main\.js:1/],
  "the constructor throws": ["constructor() { super(); throw new URIError('no map'); }", "URIError", /^no map$/, /main\.js/],
};
for (const [name, [body, type, message, stack]] of Object.entries(FAILURES)) {
  test(`INIT_FAILED: ${name}`, async () => {
    const code = `exports.Geo = class Geo extends require("raas").Helper { ${body} };`;
    await withStarted({ "main.js": code }, async (runtime) => {
      await runtime.boot();
      const { kind, payload } = await runtime.init({ handler: "main:Geo", helper: {} });
      assert.deepEqual([kind, payload.type], [INIT_FAILED, type]);
      assert.match(payload.message, message);
      assert.match(payload.stack, stack);
      assert.equal(await runtime.exitStatus(), 1);
    });
  });
}

test("INIT_FAILED: entries that name no helper", async () => {
  for (const [code, handler, type, part] of [
    ["exports.Geo = class {};", "main:Geo", "NotAHelper", /"main:Geo" is not a class that extends Helper/],
    ["exports.Geo = 3;", "main:Geo", "NotAHelper", /is not a class/],
    ["exports.Map = class {};", "main:Geo", "HandlerNotFound", /no export "Geo"; it exports: Map/],
    ["", "main.Geo", "InvalidHandlerName", /module:Class/],
  ]) {
    await withStarted({ "main.js": code }, async (runtime) => {
      await runtime.boot();
      const { kind, payload } = await runtime.init({ handler, helper: {} });
      assert.deepEqual([kind, payload.type], [INIT_FAILED, type], code);
      assert.match(payload.message, part);
    });
  }
});

const HOOKS = `
  const { Helper } = require("raas");
  exports.Geo = class Geo extends Helper {
    done = [];
    route() { return this.done; }
    async train() { await this.state.put("model", 2); return { trained: true }; }
    candidates() {
      const { shape } = this.config, route = (n) => ["route", { n }], named = (n) => ({ method: "route", args: { n } });
      if (shape === "array") return [route(1), named(2), route(3), ["route"]];
      if (shape === "nothing") return undefined;
      if (shape === "unknown") return [["no_such", {}]];
      if (shape === "positional") return [["route", [1]]];
      if (shape === "async") return (async function* () { yield route(1); await null; yield named(2); yield route(3); })();
      return (function* (done) {
        try { for (let n = 1; ; n += 1) yield n % 2 ? route(n) : named(n); } finally { done.push("left"); }
      })(this.done);
    }
    async reconfigure(config) {
      if (config.bad) throw new Error("no such hub");
      if (config.writes) await this.state.put("hub", config.writes);
      this.done.push([this.config, config]);
    }
    async health() { if (this.config.sick === "very") throw new Error("very sick"); return !this.config.sick; }
    async suspend() { this.done.push("suspend"); await this.state.put("slept", 1); }
    resume() { this.done.push("resume"); }
  };
`;

test("candidates come from arrays and generators, plain or async, as pairs or objects", async () => {
  const three = [1, 2, 3].map((n) => ({ method: "route", args: { n } }));
  const shapes = { array: [...three, { method: "route", args: {} }], async: three, nothing: [] };
  for (const [shape, expected] of Object.entries(shapes)) {
    await withHelper(HOOKS, async (runtime) => {
      assert.deepEqual((await runtime.call({ hook: "candidates", limit: 1000 })).payload, expected, shape);
    }, { config: { shape } });
  }
  await withHelper(HOOKS, async (runtime) => {
    assert.deepEqual((await runtime.call({ hook: "candidates", limit: 3 })).payload, three);
    assert.deepEqual((await runtime.call({ method: "route" })).payload, ["left"], "a generator with more is ended");
    assert.deepEqual((await runtime.call({ hook: "candidates", limit: 0 })).payload, []);
  });
  const wrong = { unknown: /"no_such" is no method/, positional: /route are one object of named arguments/ };
  for (const [shape, message] of Object.entries(wrong)) {
    await withHelper(HOOKS, async (runtime) => {
      const { kind, payload } = await runtime.call({ hook: "candidates", limit: 10 });
      assert.deepEqual([kind, payload.type], [ERROR, "InvalidCandidate"]);
      assert.match(payload.message, message);
    }, { config: { shape } });
  }
});

test("train answers its value when its writes are committed", async () => {
  await withHelper(HOOKS, async (runtime) => {
    runtime.send(pack(INVOKE, 5, invokePayload({ hook: "train" })));
    const commit = await runtime.nextCall();
    assert.deepEqual([commit.request, readCommit(commit.body)], [5, [["model", "j", "2", 0]]]);
    runtime.answer(commit);
    assert.deepEqual((await runtime.nextAnswer()).payload, { value: { trained: true } });
  }, { purpose: "train" });
});

test("reconfigure sets the configuration, and a refused one stays out", async () => {
  await withHelper(HOOKS, async (runtime) => {
    assert.equal((await runtime.call({ hook: "reconfigure", config: { sick: true } })).kind, RESULT);
    assert.deepEqual((await runtime.call({ method: "route" })).payload, [[{ hub: "SEA" }, { sick: true }]]);
    assert.equal((await runtime.call({ hook: "health" })).payload, false, "the new configuration is in force");
    const refused = await runtime.call({ hook: "reconfigure", config: { bad: true } });
    assert.deepEqual([refused.kind, refused.payload.message], [ERROR, "no such hub"]);
    runtime.send(pack(INVOKE, 2, invokePayload({ hook: "reconfigure", config: { writes: "PDX" } })));
    runtime.refuse(await runtime.nextCall(), { type: "StateError", message: "full", code: "state-quota", origin: "helper" });
    assert.deepEqual((await runtime.nextAnswer()).payload.message, "full");
    assert.equal((await runtime.call({ hook: "health" })).payload, false, "the one before is still in force");
  }, { config: { hub: "SEA" } });
});

test("health, suspend and resume", async () => {
  await withHelper(HOOKS, async (runtime) => {
    assert.equal((await runtime.call({ hook: "health" })).payload, true);
    runtime.send(pack(INVOKE, 1, invokePayload({ hook: "suspend" })));
    const commit = await runtime.nextCall();
    assert.deepEqual(readCommit(commit.body), [["slept", "j", "1", 0]]);
    runtime.answer(commit);
    assert.equal((await runtime.nextAnswer()).kind, RESULT);
    assert.equal((await runtime.call({ hook: "resume" })).kind, RESULT);
    assert.deepEqual((await runtime.call({ method: "route" })).payload, ["suspend", "resume"]);
  });
  await withHelper(HOOKS, async (runtime) => {
    assert.equal((await runtime.call({ hook: "health" })).payload.message, "very sick");
  }, { config: { sick: "very" } });
  await withHelper(`exports.Geo = class extends require("raas").Helper {};`, async (runtime, ready) => {
    assert.deepEqual([ready.methods, ready.hooks], [[], []]);
    for (const [hook, payload] of [["health", true], ["train", { value: null }], ["candidates", []], ["suspend", null]]) {
      assert.deepEqual((await runtime.call({ hook })).payload, payload, `${hook} of a class that has none`);
    }
  });
});

test("stop runs once, after what is in flight, and its writes are committed", async () => {
  const code = `exports.Geo = class extends require("raas").Helper {
    async route() { await this.state.get("k"); console.log("answered"); }
    async stop() { console.log("stopping"); await this.state.put("stopped", true); }
  };`;
  await withHelper(code, async (runtime) => {
    runtime.startMethod("route");
    const get = await runtime.nextCall();
    runtime.send(pack(STOP));
    runtime.answer(get, NOTHING);
    assert.equal((await runtime.nextAnswer()).kind, RESULT);
    const commit = await runtime.nextCall();
    assert.deepEqual([commit.request, readCommit(commit.body)], [0, [["stopped", "j", "true", 0]]]);
    // A second STOP, which the PONG shows was read, is no second `stop`.
    runtime.send(pack(STOP), pack(PING));
    assert.equal((await runtime.nextAnswer()).kind, PONG);
    assert.deepEqual(runtime.logs, [[1, 1, "answered"], [0, 1, "stopping"]]);
    runtime.answer(commit);
    assert.equal(await runtime.nextAnswer(), null);
    assert.equal(await runtime.exitStatus(), 0);
  });
});

test("a stop that fails is told and ends the process all the same", async () => {
  const code = `exports.Geo = class extends require("raas").Helper { stop() { throw new Error("stuck"); } };`;
  await withHelper(code, async (runtime) => {
    runtime.send(pack(STOP));
    assert.equal(await runtime.nextAnswer(), null);
    assert.equal(await runtime.exitStatus(), 0);
    assert.match(runtime.logs[0][2], /^stop: Error: stuck/);
  });
});

test("start's writes are committed before READY; a refused commit is INIT_FAILED", async () => {
  const code = `exports.Geo = class extends require("raas").Helper {
    async start() {
      this.before = await this.state.get("n");
      await this.state.put("n", this.before + 1);
      this.seen = await this.state.get("n");
    }
    seen_and_before() { return [this.seen, this.before]; }
  };`;
  for (const isRefused of [false, true]) {
    await withStarted({ "main.js": code }, async (runtime) => {
      await runtime.boot();
      const get = await runtime.init({ handler: "main:Geo", helper: {} });
      assert.deepEqual([get.payload.request, get.payload.operation, get.payload.target], [0, "get", "n"]);
      runtime.answer(get, Buffer.from("j41"));
      const commit = await runtime.nextCall();
      assert.deepEqual(readCommit(commit.body), [["n", "j", "42", 0]]);
      if (isRefused) {
        runtime.refuse(commit, { type: "StateError", message: "the state is full", code: "state-quota", origin: "helper" });
        const { kind, payload } = await runtime.nextAnswer();
        assert.deepEqual([kind, payload.type, payload.message], [INIT_FAILED, "StateError", "the state is full"]);
      } else {
        runtime.answer(commit);
        assert.equal((await runtime.nextAnswer()).kind, READY);
        assert.deepEqual((await runtime.call({ method: "seen_and_before" })).payload, [42, 41]);
      }
    });
  }
});

test("a background task that start began writes while start's own writes are on their way", async () => {
  const code = `exports.Geo = class extends require("raas").Helper {
    async start() {
      await this.state.put("first", 1);
      this.background = this.state.get("go").then(() => this.state.put("second", 2));
    }
    async settled() { await this.background; return "settled"; }
  };`;
  await withStarted({ "main.js": code }, async (runtime) => {
    await runtime.boot();
    const get = await runtime.init({ handler: "main:Geo", helper: {} });
    const first = await runtime.nextCall();
    assert.deepEqual(readCommit(first.body), [["first", "j", "1", 0]]);
    runtime.answer(get, NOTHING);
    const second = await runtime.nextCall();
    assert.deepEqual([second.request, readCommit(second.body)], [0, [["second", "j", "2", 0]]], "a commit of its own");
    runtime.answer(second);
    runtime.answer(first);
    assert.equal((await runtime.nextAnswer()).kind, READY);
    assert.equal((await runtime.call({ method: "settled" })).payload, "settled");
  });
});

test("CANCEL fails what a method waits for, and what it asks for afterwards", async () => {
  const code = `exports.Geo = class extends require("raas").Helper {
    async route() {
      const codes = [];
      for (const key of ["a", "b"]) await this.state.get(key).catch((error) => codes.push(error.code, error.origin));
      return codes;
    }
  };`;
  await withHelper(code, async (runtime) => {
    runtime.startMethod("route");
    const get = await runtime.nextCall();
    runtime.send(pack(CANCEL, 1));
    assert.deepEqual((await runtime.nextAnswer()).payload, ["cancelled", "caller", "cancelled", "caller"]);
    runtime.answer(get, NOTHING);
    runtime.startMethod("route", {}, 2);
    assert.equal((await runtime.nextCall()).request, 2, "a late ANSWER is ignored");
  });
});
