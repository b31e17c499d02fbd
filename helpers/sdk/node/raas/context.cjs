// The second argument of a handler. Owns the names that function code relies on.
// Text and the abort signal are made when asked for: most handlers never look.
"use strict";

const { bindHelpers, boundHelper } = require("./bound_helpers.cjs");

// Kept from before a check gives code another clock.
const { now } = Date;

const functionFacts = { name: "", version: "", memoryMb: 0 };

/** What is the same for every invocation of this process; called once, at INIT. */
function describeFunction(settings) {
  functionFacts.name = settings.function_name;
  functionFacts.version = settings.function_version;
  functionFacts.memoryMb = settings.memory_mb;
  bindHelpers(settings.helpers ?? []);
}

class Context {
  #idBytes;
  #trace;
  #controller = null;
  #cancelled = false;

  /** Times are in milliseconds, `deadline_ms` since the Unix epoch. `idBytes` is a string of 16 Latin-1 characters. */
  constructor(idBytes, deadlineMs, trace) {
    this.#idBytes = idBytes;
    this.deadline_ms = deadlineMs;
    this.#trace = trace;
  }

  get invocation_id() {
    const hex = Buffer.from(this.#idBytes, "latin1").toString("hex");
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }

  get function_name() {
    return functionFacts.name;
  }

  get function_version() {
    return functionFacts.version;
  }

  get memory_mb() {
    return functionFacts.memoryMb;
  }

  /** The W3C trace parent, or an empty string. */
  get traceparent() {
    return this.#trace.split("\n", 1)[0];
  }

  /** The W3C trace state, or an empty string. */
  get tracestate() {
    const newline = this.#trace.indexOf("\n");
    return newline < 0 ? "" : this.#trace.slice(newline + 1);
  }

  /** True once the answer is no longer wanted. */
  get cancelled() {
    return this.#cancelled;
  }

  /** An AbortSignal that fires when the answer is no longer wanted; to be handed to fetch, timers, streams. */
  get signal() {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#cancelled) {
        this.#controller.abort();
      }
    }
    return this.#controller.signal;
  }

  /** The helper that is bound by this name: `await context.helper("geo").route({ src: "SEA" })`. */
  helper(name) {
    return boundHelper(name);
  }

  get_remaining_time_in_millis() {
    return Math.max(0, this.deadline_ms - now());
  }

  getRemainingTimeInMillis() {
    return this.get_remaining_time_in_millis();
  }

  static cancel(context) {
    context.#cancelled = true;
    context.#controller?.abort();
  }
}

const { cancel } = Context;
delete Context.cancel;

module.exports = { Context, cancel, describeFunction };
