// Clocks that tell code another time: the wall clock shifted by what INIT says, the others by a constant.
// Owns which functions of the language and of Node read a clock. The runtime keeps the functions that it took before, so
// that deadlines mean the same; so does Node itself. What reads a clock in another way (file times, worker threads) is not shifted.
"use strict";

const { syncBuiltinESMExports } = require("node:module");

// The origin of these clocks is arbitrary, so code whose result depends on it is found by moving it. Towards the future, so
// that no reading is below zero.
const ORIGIN_SHIFT_S = 1_000_003;
const MS_PER_S = 1000;
const ORIGIN_SHIFT_MS = ORIGIN_SHIFT_S * MS_PER_S;
const ORIGIN_SHIFT_NS = BigInt(ORIGIN_SHIFT_S) * 1_000_000_000n;

/** Shifts all clocks, once, before user code is loaded. */
function shiftClocks(shiftS) {
  const now = shiftDate(shiftS * MS_PER_S);
  shiftFormats(now);
  const before = performance.now();
  shiftHrtime();
  // Node 18 makes the one of the other.
  if (performance.now() - before < ORIGIN_SHIFT_MS) {
    shiftPerformanceNow();
  }
  shiftTimeOrigin(shiftS * MS_PER_S - ORIGIN_SHIFT_MS);
  if (globalThis.Temporal !== undefined) {
    shiftTemporal(globalThis.Temporal.Now, shiftS);
  }
  // For `import { hrtime } from "node:process"`.
  syncBuiltinESMExports();
}

/** Replaces a property and leaves it as it is otherwise. */
function replace(owner, name, change) {
  Object.defineProperty(owner, name, { ...Object.getOwnPropertyDescriptor(owner, name), ...change });
}

/** The object in the chain of prototypes that has the property itself. */
function ownerOf(object, name) {
  return Object.hasOwn(object, name) ? object : ownerOf(Object.getPrototypeOf(object), name);
}

/** A proxy of the class itself, so that its prototype, and with it every date there is, stays what it was. Returns `now`. */
function shiftDate(shiftMs) {
  const original = Date;
  const originalNow = original.now;
  const { now } = { now: () => originalNow() + shiftMs };
  const shifted = new Proxy(original, {
    construct: (target, given, newTarget) => Reflect.construct(target, given.length === 0 ? [now()] : given, newTarget),
    apply: (target) => new target(now()).toString(),
  });
  replace(original, "now", { value: now });
  replace(original.prototype, "constructor", { value: shifted });
  replace(globalThis, "Date", { value: shifted });
  return now;
}

/** `format` and `formatToParts` take now where no date is given. */
function shiftFormats(now) {
  const { prototype } = Intl.DateTimeFormat;
  const { get } = Object.getOwnPropertyDescriptor(prototype, "format");
  const { formatToParts } = prototype;
  const shiftedOf = new WeakMap();
  replace(prototype, "format", {
    get() {
      // The same function each time, as it is without a shift.
      const format = get.call(this);
      if (!shiftedOf.has(format)) {
        shiftedOf.set(format, (date) => format(date === undefined ? now() : date));
      }
      return shiftedOf.get(format);
    },
  });
  const changed = {
    formatToParts(date) {
      return formatToParts.call(this, date === undefined ? now() : date);
    },
  };
  replace(prototype, "formatToParts", { value: changed.formatToParts });
}

function shiftPerformanceNow() {
  const owner = ownerOf(performance, "now");
  const original = owner.now;
  const changed = {
    now() {
      return original.call(this) + ORIGIN_SHIFT_MS;
    },
  };
  replace(owner, "now", { value: changed.now });
}

/** By as much that `timeOrigin + now()` stays the wall clock's time. */
function shiftTimeOrigin(shiftMs) {
  const owner = ownerOf(performance, "timeOrigin");
  const { get } = Object.getOwnPropertyDescriptor(owner, "timeOrigin");
  replace(owner, "timeOrigin", {
    get() {
      return get.call(this) + shiftMs;
    },
  });
}

function shiftHrtime() {
  const original = process.hrtime;
  const originalBigint = original.bigint;
  function hrtime(since) {
    if (since === undefined) {
      const [seconds, nanoseconds] = original();
      return [seconds + ORIGIN_SHIFT_S, nanoseconds];
    }
    // What is no earlier reading is refused by the original, in its words.
    return original(Array.isArray(since) && since.length === 2 ? [since[0] - ORIGIN_SHIFT_S, since[1]] : since);
  }
  hrtime.bigint = () => originalBigint() + ORIGIN_SHIFT_NS;
  replace(process, "hrtime", { value: hrtime });
}

function shiftTemporal(now, shiftS) {
  const { instant, zonedDateTimeISO } = now;
  const zoned = (zone) => zonedDateTimeISO.call(now, zone).add({ seconds: shiftS });
  const changed = {
    instant: () => instant.call(now).add({ seconds: shiftS }),
    zonedDateTimeISO: zoned,
    plainDateTimeISO: (zone) => zoned(zone).toPlainDateTime(),
    plainDateISO: (zone) => zoned(zone).toPlainDate(),
    plainTimeISO: (zone) => zoned(zone).toPlainTime(),
  };
  Object.entries(changed).forEach(([name, value]) => replace(now, name, { value }));
}

module.exports = { shiftClocks };
