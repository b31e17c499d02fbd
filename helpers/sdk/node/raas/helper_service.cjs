// A persistent helper: its one object, and what the events of the contract make it do (docs/contract-helper.md).
// Owns the dispatch of methods and hooks. Requests, answers and commits are the server's, as for functions.
"use strict";

const { Helper, methodNames, ownHooks } = require("./helper.cjs");
const { UnknownMethod, WrongArguments } = require("./helper_errors.cjs");
const { currentOrigin } = require("./logs.cjs");
const { State } = require("./state.cjs");
const { platformStore } = require("./state_stores.cjs");

const CANDIDATES_LIMIT = 1000;

/** The entry of INIT is no class derived from Helper. */
class NotAHelper extends Error {}
NotAHelper.prototype.name = "NotAHelper";

/** The event names neither a method nor a hook that there is. */
class UnknownHook extends Error {}
UnknownHook.prototype.name = "UnknownHook";

/** `candidates` yielded what names no call. */
class InvalidCandidate extends Error {}
InvalidCandidate.prototype.name = "InvalidCandidate";

class HelperService {
  #helper;
  #methods;

  constructor(entry, derived, settings) {
    if (typeof derived !== "function" || !(derived.prototype instanceof Helper)) {
      throw new NotAHelper(`entry "${entry}" is not a class that extends Helper of "raas"`);
    }
    this.#helper = new derived();
    this.#helper.config = settings.config;
    this.#helper.state = new State(platformStore);
    this.#helper.dir = settings.dir;
    this.#helper.dataVersion = settings.data_version;
    this.#helper.purpose = settings.purpose;
    this.#methods = new Set(methodNames(this.#helper));
  }

  /** What READY says of it. */
  get description() {
    return { methods: [...this.#methods], hooks: ownHooks(this.#helper) };
  }

  start() {
    return this.#ownState().collect(() => this.#helper.start());
  }

  stop() {
    return this.#ownState().collect(() => this.#helper.stop());
  }

  // Apart from `this.state`, which code may replace.
  #ownState() {
    return new State(platformStore);
  }

  /** What serves an event, in the place of a function's handler. */
  handle = (event, context) => {
    const { method, hook } = Object(event);
    if (hook !== undefined) {
      return this.#runHook(hook, event);
    }
    if (!this.#methods.has(method)) {
      const there = this.#methods.size > 0 ? `it has: ${[...this.#methods].join(", ")}` : "it has none";
      throw new UnknownMethod(`the helper has no method "${method}"; ${there}`);
    }
    const named = event.args ?? {};
    if (typeof named !== "object" || Array.isArray(named)) {
      const given = Array.isArray(named) ? "an array" : typeof named;
      throw new WrongArguments(`${method} takes one object of named arguments, not ${given}`);
    }
    return this.#helper[method](named, context);
  };

  async #runHook(hook, event) {
    switch (hook) {
      case "train":
        return { value: (await this.#helper.train()) ?? null };
      case "candidates":
        return this.#candidates(event.limit ?? CANDIDATES_LIMIT);
      case "reconfigure":
        return this.#reconfigure(event.config);
      case "health":
        return this.#helper.health();
      case "suspend":
      case "resume":
        await this.#helper[hook]();
        return null;
      default:
        throw new UnknownHook(`there is no hook "${hook}"`);
    }
  }

  async #candidates(limit) {
    const found = [];
    if (limit > 0) {
      // Takes arrays and generators, plain or async; leaving the loop ends a generator that has more.
      for await (const candidate of (await this.#helper.candidates()) ?? []) {
        found.push(this.#checkedCandidate(candidate));
        if (found.length >= limit) {
          break;
        }
      }
    }
    return found;
  }

  #checkedCandidate(candidate) {
    const isPair = Array.isArray(candidate);
    const method = isPair ? candidate[0] : Object(candidate).method;
    const args = (isPair ? candidate[1] : Object(candidate).args) ?? {};
    if (!this.#methods.has(method)) {
      const form = "a candidate is [method, arguments] or { method, args }";
      throw new InvalidCandidate(`${form}, but "${String(method)}" is no method`);
    }
    if (typeof args !== "object" || Array.isArray(args)) {
      throw new InvalidCandidate(`the arguments of a candidate for ${method} are one object of named arguments`);
    }
    return { method, args };
  }

  async #reconfigure(config) {
    await this.#helper.reconfigure(config);
    // Here rather than by the server: when what it wrote is refused, the old configuration stays.
    await currentOrigin().writes?.commit();
    this.#helper.config = config;
    return null;
  }
}

module.exports = { HelperService };
