// The class that helpers derive from. Owns the names that helper code relies on, and which of its own names are methods.
"use strict";

const { boundHelper } = require("./bound_helpers.cjs");
const { State } = require("./state.cjs");
const { MemoryStore } = require("./state_stores.cjs");

const HOOKS = ["candidates", "train", "reconfigure", "health", "suspend", "resume", "stop"];

/**
 * Every function of a derived class can be called by others, with one object of named arguments, except those whose names
 * begin with `_`, private ones (`#`) and those named here.
 */
class Helper {
  /** In a unit test: what the test gives, and state in memory. The platform sets them all after this and before `start`. */
  constructor({ config = {}, dir = null, dataVersion = 0, purpose = "serve" } = {}) {
    this.config = config;
    this.dir = dir;
    this.dataVersion = dataVersion;
    this.purpose = purpose;
    this.state = new State(new MemoryStore());
  }

  /** The helper that this one is bound to by the name. */
  helper(name) {
    return boundHelper(name);
  }

  /** Before the first call: load what calls need. */
  start() {}

  /** Yields `[method, arguments]` or `{ method, args }` worth computing ahead. */
  candidates() {
    return [];
  }

  /** Continuous training, apart from calls. Returning false says that nothing has changed. */
  train() {}

  /** Called in a replica that was started with a new configuration, before that is in force; throwing refuses it. */
  reconfigure(_config) {}

  /** False, or throwing, says that this instance is to be replaced. */
  health() {
    return true;
  }

  suspend() {}

  resume() {}

  /** After the last call. */
  stop() {}
}

/** The names of the methods of an object of a class derived from Helper. */
function methodNames(helper) {
  const names = new Set();
  for (let owner = Object.getPrototypeOf(helper); owner !== Helper.prototype; owner = Object.getPrototypeOf(owner)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(owner))) {
      // A method can be hidden by a field, such as `config`.
      const isMethod = typeof value === "function" && typeof helper[name] === "function";
      if (isMethod && !name.startsWith("_") && !(name in Helper.prototype)) {
        names.add(name);
      }
    }
  }
  return [...names].sort();
}

/** The names of the hooks that a helper has of its own. */
function ownHooks(helper) {
  return HOOKS.filter((name) => helper[name] !== Helper.prototype[name]);
}

module.exports = { Helper, methodNames, ownHooks };
