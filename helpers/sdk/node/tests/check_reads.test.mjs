// INIT's `check.record_reads`: what of the event READS names, and that the handler sees what it would see without.
import assert from "node:assert/strict";
import test from "node:test";
import { ERROR, INVOKE, READS, RESULT, invokePayload, pack, withRuntime } from "./runtime_process.mjs";

const EVENT = {
  from: "SEA", to: "JFK", n: 3, none: null,
  stops: [{ at: "DEN", h: 2 }, { at: "ORD", h: 1 }],
  opts: { deep: { x: 1, y: [1, 2, 3] }, empty: {}, list: [] },
  heap: [5, 4, 3],
  nested: [[1, 2], [3]],
  "a/b": { "c~d": 1, "": 2 },
};
const WHOLE = null;
const RECORDING = { check: { record_reads: true } };

// What a handler does with the event, and which pointers READS has then, or WHOLE.
const CASES = {
  // Members and items.
  "get": ["event.from", ["/from"]],
  "null": ["event.none", ["/none"]],
  "twice": ["[event.from, event['from']]", ["/from"]],
  "absent": ["event.via ?? 'none'", ["/via"]],
  "absent item": ["String(event.heap[7])", ["/heap/7"]],
  "in": ["['from' in event, 'via' in event]", ["/from", "/via"]],
  "hasOwn": ["[Object.hasOwn(event, 'from'), Object.hasOwn(event, 'via')]", ["/from", "/via"]],
  "hasOwnProperty": ["Object.prototype.hasOwnProperty.call(event, 'from')", ["/from"]],
  "descriptor": ["Object.getOwnPropertyDescriptor(event, 'from')", ["/from"]],
  "descriptor of a part": ["Object.getOwnPropertyDescriptor(event, 'opts').value === event.opts", ["/opts"]],
  "deep": ["event.opts.deep.x", ["/opts/deep/x"]],
  "optional": ["[event.opts?.deep?.x, event.via?.x ?? 1]", ["/opts/deep/x", "/via"]],
  "item": ["event.stops[1].at", ["/stops/1/at"]],
  "item by text": ["event.stops['1'].at", ["/stops/1/at"]],
  "escaped names": ["[event['a/b']['c~d'], event['a/b']['']]", ["/a~1b/c~0d", "/a~1b/"]],
  "destructuring": ["(({ from, opts: { deep: { x } }, via = 1 }) => [from, x, via])(event)", ["/from", "/opts/deep/x", "/via"]],
  "inherited": ["Object.create(event).from", ["/from"]],
  "Reflect.get": ["Reflect.get(event, 'from')", ["/from"]],
  "template": ["`${event.from}-${event.n}`", ["/from", "/n"]],
  // What nobody notices inside of, and what is only on the way.
  "nothing": ["1", []],
  "kind of the event": ["[typeof event, Array.isArray(event), event instanceof Object, Object.prototype.toString.call(event)]", []],
  "handed out and not looked at": ["Boolean(event.opts)", ["/opts"]],
  "handed out deep": ["typeof event.opts.deep", ["/opts/deep"]],
  "is array": ["[Array.isArray(event.heap), Object.prototype.toString.call(event.nested)]", ["/heap", "/nested"]],
  "part present": ["'opts' in event && event.opts.deep.x", ["/opts/deep/x"]],
  "identity": ["event.opts === event.opts", ["/opts"]],
  "awaited": ["Promise.resolve(event).then((same) => same === event)", ["/then"]],
  "awaited part": ["Promise.resolve(event.opts).then((opts) => opts.deep.x)", ["/opts/deep/x", "/opts/then"]],
  // The event escapes.
  "keys": ["Object.keys(event)", WHOLE],
  "values": ["Object.values(event)[0]", WHOLE],
  "entries": ["Object.entries(event).length", WHOLE],
  "for in": ["(() => { const names = []; for (const name in event) names.push(name); return names; })()", WHOLE],
  "symbols": ["Object.getOwnPropertySymbols(event).length", WHOLE],
  "ownKeys": ["Reflect.ownKeys(event)", WHOLE],
  "descriptors": ["Object.keys(Object.getOwnPropertyDescriptors(event))", WHOLE],
  "spread": ["({ ...event }).n", WHOLE],
  "rest": ["(({ from, ...rest }) => rest)(event)", WHOLE],
  "assign": ["Object.assign({}, event).n", WHOLE],
  "JSON": ["JSON.stringify(event)", WHOLE],
  "JSON of what holds it": ["JSON.stringify({ event })", WHOLE],
  "JSON, indented and chosen": ["JSON.stringify(event, ['n'], 2)", ["/n", "/toJSON"]],
  "returned": ["event", WHOLE],
  "returned inside": ["[{ event }]", WHOLE],
  "structuredClone": ["(({ n, opts }) => [n, opts])(structuredClone(event))", WHOLE],
  "structuredClone of what holds it": ["structuredClone({ list: [event], map: new Map([[1, event.opts]]) }).list[0].n", WHOLE],
  "structuredClone of a circle": ["(() => { const a = { part: event.opts }; a.me = a; const b = structuredClone(a); return [b.me === b, b.part]; })()", ["/opts"]],
  "structuredClone of what cannot be": ["(() => { try { structuredClone(() => 1); } catch (error) { return error.name; } })()", []],
  "serialize": ["v8.deserialize(v8.serialize(event)).n", WHOLE],
  "posted": ["new Promise((resolve) => { const { port1, port2 } = new MessageChannel(); port2.once('message', (got) => { port2.close(); resolve(got); }); port1.postMessage(event); })", WHOLE],
  "isDeepStrictEqual": ["[util.isDeepStrictEqual(event, EVENT), util.isDeepStrictEqual(EVENT, event)]", WHOLE],
  "assert": ["assert.deepStrictEqual(event, EVENT) ?? 1", WHOLE],
  "inspect": ["util.inspect(event)", WHOLE],
  "inspect of what holds it": ["util.inspect({ a: [event] }, { depth: 9 })", WHOLE],
  "inspect, compact": ["util.inspect([event.opts, new Map([[1, event.stops]])], { depth: 9, compact: false })", ["/opts", "/stops"]],
  "console": ["console.log(event) ?? 1", WHOLE],
  "format": ["util.format('%O %s', event.opts, event.heap)", ["/opts", "/heap"]],
  "query": ["String(new URLSearchParams(event))", WHOLE],
  "thrown": ["(() => { throw event; })()", WHOLE],
  "frozen": ["(Object.freeze(event), [Object.isFrozen(event), event.opts.deep.x, event.opts === event.opts, event])", WHOLE],
  "sealed": ["(Object.seal(event), [Object.isSealed(event), event.opts.deep.x, util.inspect(event)])", WHOLE],
  "not extensible": ["(Object.preventExtensions(event), ['x' in event, Reflect.set(event, 'x', 1), JSON.stringify(event)])", WHOLE],
  // A part escapes.
  "returned part": ["event.opts", ["/opts"]],
  "returned empty parts": ["[event.opts.empty, event.opts.list]", ["/opts/empty", "/opts/list"]],
  "part and below": ["[event.opts.deep.x, event.opts]", ["/opts"]],
  "kept in a result": ["({ kept: event.nested[0] })", ["/nested/0"]],
  "list of": ["(() => { const all = []; for (const stop of event.stops) all.push(stop.at); return all; })()", ["/stops"]],
  "length": ["event.stops.length", ["/stops"]],
  "map": ["event.stops.map(({ at }) => at)", ["/stops"]],
  "filter": ["event.heap.filter((n) => n > 3)", ["/heap"]],
  "reduce": ["event.heap.reduce((sum, n) => sum + n)", ["/heap"]],
  "includes": ["[event.heap.includes(4), event.heap.indexOf(3), event.heap.at(-1)]", ["/heap"]],
  "includes a part": ["event.stops.includes(event.stops[1])", ["/stops"]],
  "slice": ["event.heap.slice(1)", ["/heap"]],
  "concat": ["[[1].concat(event.heap), event.heap.concat(event.opts.list)]", ["/heap", "/opts/list"]],
  "join": ["[event.heap.join('-'), `${event.heap}`]", ["/heap"]],
  "flat": ["event.nested.flat()", ["/nested"]],
  "spread list": ["[[...event.heap], Math.max(...event.heap)]", ["/heap"]],
  "destructured list": ["(([first, ...rest]) => [first, rest])(event.heap)", ["/heap"]],
  "Array.from": ["[Array.from(event.heap), new Set(event.heap).size, [...new Uint8Array(event.heap)]]", ["/heap"]],
  "Buffer": ["[...Buffer.from(event.heap)]", ["/heap"]],
  "new Map": ["[...new Map(event.nested).keys()]", ["/nested"]],
  "JSON of a part": ["JSON.stringify(event.nested)", ["/nested"]],
  "clone of a part": ["structuredClone(event.nested)", ["/nested"]],
  // Changes.
  "set": ["(event.from = 1, event.x = 2, 3)", []],
  "set and read": ["(event.x = { y: 1 }, [event.x, util.types.isProxy(event.x)])", ["/x"]],
  "delete": ["delete event.from", []],
  "define": ["(Object.defineProperty(event, 'x', { value: event.opts }), event.x === event.opts)", ["/opts"]],
  "push": ["[event.heap.push(1), event.heap]", ["/heap"]],
  "sort": ["[event.heap.sort(), event.heap[0]]", ["/heap"]],
  "splice": ["[event.heap.splice(0, 1, 9), event.heap]", ["/heap"]],
  "reverse": ["(event.stops.reverse(), event.stops[0].at)", ["/stops"]],
  "moved part": ["(event.n = event.opts.deep, event.n.x)", ["/opts/deep/x"]],
  "circle": ["(event.me = event, [event.me === event, util.inspect(event).length, structuredClone(event).me.n])", WHOLE],
  "prototype": ["(Object.setPrototypeOf(event, { via: 1 }), event.via)", ["/via"]],
};
const CODE = `
  "use strict";
  const assert = require("node:assert"), util = require("node:util"), v8 = require("node:v8");
  const EVENT = ${JSON.stringify(EVENT)};
  const CASES = { ${Object.entries(CASES).map(([name, [text]]) => `${JSON.stringify(name)}: (event) => ${text}`).join(",\n")} };
  exports.handler = (event, context) => CASES[context.traceparent](event);
  exports.later = async (event, context) => { await null; return CASES[context.traceparent](event); };
`;

async function sameAsPlain(handler) {
  await withRuntime(CODE, async (runtime) => {
    await withRuntime(CODE, async (plain) => {
      for (const [name, [, pointers]] of Object.entries(CASES)) {
        const { reads, kind, payload } = await runtime.callRecorded(EVENT, { trace: name });
        const expected = await plain.call(EVENT, { trace: name });
        assert.deepEqual([kind, payload], [expected.kind, expected.payload], name);
        reads.pointers.sort();
        assert.deepEqual(reads, { pointers: [...(pointers ?? [])].sort(), whole: pointers === WHOLE }, name);
      }
      assert.deepEqual(runtime.logs, plain.logs);
    }, { handler });
  }, { handler, ...RECORDING });
}

test("plain handlers", () => sameAsPlain("main.handler"));
test("async handlers", () => sameAsPlain("main.later"));

test("events without members are read whole", async () => {
  await withRuntime("exports.handler = (event) => require('node:util').types.isProxy(event);", async (runtime) => {
    for (const event of [null, 1, "text", [], [{ a: 1 }], {}]) {
      const { reads, payload } = await runtime.callRecorded(event);
      assert.deepEqual([reads, payload], [{ pointers: [], whole: true }, false]);
    }
    const { reads, kind, payload } = await runtime.callRecorded(Buffer.from("{"), { raw: true });
    assert.deepEqual([reads.whole, kind, payload.type], [true, ERROR, "InvalidEvent"]);
  }, RECORDING);
});

test("errors have reads too", async () => {
  const code = "exports.handler = (event) => { throw new Error('no ' + event.name); };";
  await withRuntime(code, async (runtime) => {
    const { reads, kind } = await runtime.callRecorded({ name: "x", other: 1 });
    assert.deepEqual([reads, kind], [{ pointers: ["/name"], whole: false }, ERROR]);
  }, RECORDING);
});

test("at most 64 pointers", async () => {
  const code = `exports.handler = (event) => {
    for (let n = 0, count = event.count; n < count; n += 1) event["n" + n];
    for (let n = 0, count = event.items; n < count; n += 1) event.list[n];
    if (event.all) event.list.length;
  };`;
  await withRuntime(code, async (runtime) => {
    const base = { count: 0, items: 0, all: false, list: Array.from({ length: 5000 }, (_, index) => index) };
    const cases = [
      [{ count: 61 }, 64], [{ count: 62 }, null], [{ items: 62 }, null],
      // The list replaces its items.
      [{ items: 1000, all: true }, 4], [{ items: 5000, all: true }, null],
    ];
    for (const [event, count] of cases) {
      const { reads } = await runtime.callRecorded({ ...base, ...event });
      assert.deepEqual([reads.whole, reads.pointers.length], [count === null, count ?? 0], JSON.stringify(event));
    }
  }, RECORDING);
});

test("names that no frame holds", async () => {
  const code = "exports.handler = (event) => { for (const name of ['\\ud800', 'x'.repeat(70000)].slice(0, event.n)) event[name]; };";
  await withRuntime(code, async (runtime) => {
    for (const [n, whole] of [[0, false], [1, true], [2, true]]) {
      assert.equal((await runtime.callRecorded({ n })).reads.whole, whole);
    }
  }, RECORDING);
});

test("a member with the name of the prototype's", async () => {
  const code = "exports.handler = (event) => [Object.hasOwn(structuredClone(event), '__proto__'), event.part.__proto__ === Object.prototype, event];";
  const answers = [];
  for (const settings of [RECORDING, {}]) {
    await withRuntime(code, async (runtime) => {
      const event = Buffer.from('{"__proto__": {"a": 1}, "part": {"b": 1}}');
      const { kind, payload } = settings.check ? await runtime.callRecorded(event, { raw: true }) : await runtime.call(event, { raw: true });
      answers.push([kind, JSON.stringify(payload)]);
    }, settings);
  }
  assert.deepEqual(answers[0], answers[1]);
});

test("requests at once do not mix", async () => {
  const code = `
    let here = 0, open;
    const allHere = new Promise((resolve) => (open = resolve));
    exports.handler = async (event) => {
      event.before;
      here += 1;
      if (here === 3) open();
      await allHere;
      return event["own" + event.n];
    };`;
  await withRuntime(code, async (runtime) => {
    const ids = [1, 2, 3];
    runtime.send(...ids.map((n) => pack(INVOKE, n, invokePayload({ before: 1, n, [`own${n}`]: n }))));
    const reads = new Map();
    for (let count = 0; count < 6; count += 1) {
      const { kind, id, payload } = await runtime.nextAnswer();
      assert.equal(kind, reads.has(id) ? RESULT : READS);
      if (kind === READS) {
        reads.set(id, payload.pointers.sort());
      } else {
        assert.equal(payload, Number(id));
      }
    }
    for (const n of ids) {
      assert.deepEqual(reads.get(BigInt(n)), ["/before", "/n", `/own${n}`].sort());
    }
  }, RECORDING);
});

test("log lines come before", async () => {
  await withRuntime("exports.handler = (event) => { process.stdout.write('a'); return event.x; };", async (runtime) => {
    const { reads, payload } = await runtime.callRecorded({ x: 1 });
    assert.deepEqual([reads.pointers, payload, runtime.logs], [["/x"], 1, [[1, 1, "a"]]]);
  }, RECORDING);
});

test("only where it is asked for", async () => {
  for (const check of [{ record_reads: false }, { time_zone: "UTC" }, {}]) {
    await withRuntime("exports.handler = (event) => require('node:util').types.isProxy(event);", async (runtime) => {
      const { kind, payload } = await runtime.call({ a: 1 });
      assert.deepEqual([kind, payload], [RESULT, false]);
    }, { check });
  }
});
