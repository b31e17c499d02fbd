// The helpers that code is bound to: `context.helper(name)` and, in a helper, `this.helper(name)`.
// Owns what may be called by which name, and the checks that need no platform.
"use strict";

const { HELPER_METHOD, Refusal, calls } = require("./calls.cjs");
const { HelperError } = require("./helper_errors.cjs");
const { strictText } = require("./results.cjs");

let boundNames = [];
const made = new Map();

/** INIT says which names there are. */
function bindHelpers(names) {
  boundNames = names;
  made.clear();
}

/** An object with a function for every method: takes one object of named arguments, returns a promise of the value. */
function boundHelper(name) {
  let helper = made.get(name);
  if (helper === undefined) {
    if (!boundNames.includes(name)) {
      const there = boundNames.length > 0 ? `bound are: ${boundNames.join(", ")}` : "nothing is bound";
      const shown = JSON.stringify(String(name));
      const message = `no helper is bound by the name ${shown}; ${there}; see [helpers] in the manifest`;
      throw new HelperError({ type: "NotBound", message, code: "not-bound", origin: "caller" });
    }
    helper = new Proxy(Object.create(null), { get: (methods, key) => methods[key] ?? addMethod(methods, name, key) });
    made.set(name, helper);
  }
  return helper;
}

function addMethod(methods, name, key) {
  // What the language itself asks objects for is no method; with `then`, a helper that is awaited would be called.
  if (typeof key !== "string" || key === "then" || key === "toJSON" || key in Object.prototype) {
    return Object.prototype[key];
  }
  const target = `${name}/${key}`;
  methods[key] = async (...given) => {
    const answer = await calls.ask(HELPER_METHOD, target, argumentsText(target, given), readJson);
    if (answer instanceof Refusal) {
      throw new HelperError(answer.fields);
    }
    return answer;
  };
  return methods[key];
}

function argumentsText(target, given) {
  const named = given.length === 0 ? {} : given[0];
  if (given.length > 1 || typeof named !== "object" || named === null || Array.isArray(named)) {
    throw wrongArguments(`${target} takes one object of named arguments`);
  }
  const text = strictText(named, "the arguments", wrongArguments);
  if (!text.startsWith("{")) {
    throw wrongArguments(`${target} takes one object of named arguments`);
  }
  return text;
}

function wrongArguments(message) {
  return new HelperError({ type: "WrongArguments", message, code: "wrong-arguments", origin: "caller" });
}

function readJson(buffer, start, end) {
  return JSON.parse(buffer.utf8Slice(start, end));
}

module.exports = { bindHelpers, boundHelper };
