// The errors that helpers and their callers meet. Owns their fields and which of them put the caller at fault.
"use strict";

/** Marks errors that put the caller at fault: the contract's `code` of an ERROR. */
const FAULT = Symbol("raas.fault");

/** What the platform refused, or what was wrong before it was asked: `code` says which, `origin` who is at fault. */
class PlatformError extends Error {
  /** `error` is what the helper's code threw, as { type, message, stack }, where it was code that threw. */
  constructor({ type = "Refused", message = "", code = "refused", origin = "platform", retryable = false, error = null }) {
    super(message);
    this.type = type;
    this.code = code;
    this.origin = origin;
    this.retryable = retryable;
    this.error = error;
  }
}

/** A call of a helper was not answered with a value. */
class HelperError extends PlatformError {}
HelperError.prototype.name = "HelperError";

/** The state could not be read or written. */
class StateError extends PlatformError {}
StateError.prototype.name = "StateError";

/** For a method to throw when its arguments are not what it takes: the caller is told that it is at fault. */
class WrongArguments extends Error {}
WrongArguments.prototype.name = "WrongArguments";
WrongArguments.prototype[FAULT] = "wrong-arguments";

/** The caller named a method that the class does not have. */
class UnknownMethod extends Error {}
UnknownMethod.prototype.name = "UnknownMethod";
UnknownMethod.prototype[FAULT] = "unknown-method";

/** What a CALL in flight is answered with when its request was answered or cancelled. */
const CANCELLED = {
  type: "Cancelled",
  message: "the call in which this was asked for was answered or cancelled before",
  code: "cancelled",
  origin: "caller",
};

/** True for the end of a CALL of a request that is over: code that did not wait for it must not be ended because of it. */
function isCancellation(thrown) {
  return thrown instanceof PlatformError && thrown.type === CANCELLED.type && thrown.code === CANCELLED.code;
}

module.exports = { CANCELLED, FAULT, HelperError, StateError, UnknownMethod, WrongArguments, isCancellation };
