// What code asks of the platform while it runs: CALL frames out, ANSWER frames in (docs/contract-helper.md).
// Owns the table of CALLs in flight, their numbers and the layout of both payloads. Knows nothing of what is asked for.
"use strict";

const { CANCELLED } = require("./helper_errors.cjs");
const { CALL, PAYLOAD_MAX_BYTES, ProtocolError } = require("./frames.cjs");
const { INSTANCE, currentOrigin } = require("./logs.cjs");

const HELPER_METHOD = 1;
const STATE_GET = 2;
const STATE_LIST = 3;
const STATE_COMMIT = 4;

const IN_FLIGHT_MAX = 1000;
const PREFIX_BYTES = 8 + 1 + 2;
const TARGET_MAX_BYTES = 0xffff;
const DONE = 0;

/** The platform answered a CALL with a refusal: `fields` are those of the contract. */
class Refusal {
  constructor(fields) {
    this.fields = fields;
  }
}

/** One CALL, from being asked for to its answer. */
class Pending {
  constructor(id, origin, payload, decode, resolve) {
    this.id = id;
    this.origin = origin;
    this.payload = payload;
    this.decode = decode;
    this.resolve = resolve;
  }
}

class Calls {
  #connection = null;
  #lastId = 0;
  #inFlight = new Map();
  #waiting = []; // beyond what the contract lets be in flight, first come first served

  connect(connection) {
    this.#connection = connection;
  }

  /**
   * Asks in the name of the request that runs. Resolves with `decode(buffer, start, end)` of the result, whose bytes are
   * valid during that call only, or with a Refusal. Does not reject: who awaits it makes the error, where the stack is.
   */
  ask(operation, target, body, decode) {
    const origin = currentOrigin();
    if (origin.cancelled) {
      return Promise.resolve(new Refusal(CANCELLED));
    }
    const payload = callPayload(origin.requestId, operation, target, body);
    if (payload.length > PAYLOAD_MAX_BYTES) {
      const message = `${payload.length} bytes are over the limit of ${PAYLOAD_MAX_BYTES} for what is sent at once`;
      return Promise.resolve(new Refusal({ type: "TooLarge", message, code: "too-large", origin: "caller" }));
    }
    return new Promise((resolve) => {
      this.#lastId += 1;
      const pending = new Pending(this.#lastId, origin, payload, decode, resolve);
      if (origin !== INSTANCE) {
        (origin.calls ??= new Set()).add(pending);
      }
      if (this.#inFlight.size < IN_FLIGHT_MAX) {
        this.#send(pending);
      } else {
        this.#waiting.push(pending);
      }
    });
  }

  #send(pending) {
    this.#inFlight.set(pending.id, pending);
    this.#connection.sendBytes(CALL, pending.id, pending.payload);
    pending.payload = null;
  }

  /** An ANSWER frame came. One to a CALL that was dropped is ignored. */
  answer(id, buffer, start, end) {
    if (start === end) {
      throw new ProtocolError("an ANSWER without a status");
    }
    const pending = this.#inFlight.get(id);
    if (pending === undefined) {
      return;
    }
    this.#inFlight.delete(id);
    pending.origin.calls?.delete(pending);
    this.#sendWaiting();
    pending.resolve(decodeAnswer(pending, buffer, start, end));
  }

  /** The request was answered or cancelled: its CALLs fail at once, since their ANSWER may never come. */
  drop(origin) {
    const dropped = origin.calls;
    if (dropped === null) {
      return;
    }
    origin.calls = null;
    dropped.forEach((pending) => this.#inFlight.delete(pending.id));
    if (this.#waiting.length > 0) {
      this.#waiting = this.#waiting.filter((pending) => !dropped.has(pending));
      this.#sendWaiting();
    }
    dropped.forEach((pending) => pending.resolve(new Refusal(CANCELLED)));
  }

  /** What the request asks for from here on fails too: it is to end, not to wait. */
  cancel(origin) {
    origin.cancelled = true;
    this.drop(origin);
  }

  #sendWaiting() {
    while (this.#waiting.length > 0 && this.#inFlight.size < IN_FLIGHT_MAX) {
      this.#send(this.#waiting.shift());
    }
  }
}

function callPayload(requestId, operation, target, body) {
  const targetBytes = Buffer.from(target, "utf8");
  if (targetBytes.length > TARGET_MAX_BYTES) {
    throw new RangeError(`a name of ${targetBytes.length} bytes is too long`);
  }
  const bodyStart = PREFIX_BYTES + targetBytes.length;
  const payload = Buffer.allocUnsafe(bodyStart + (typeof body === "string" ? Buffer.byteLength(body) : body.length));
  payload.writeBigUInt64LE(BigInt(requestId), 0);
  payload[8] = operation;
  payload.writeUInt16LE(targetBytes.length, 9);
  targetBytes.copy(payload, PREFIX_BYTES);
  if (typeof body === "string") {
    payload.write(body, bodyStart, "utf8");
  } else {
    body.copy(payload, bodyStart);
  }
  return payload;
}

function decodeAnswer(pending, buffer, start, end) {
  try {
    if (buffer[start] === DONE) {
      return pending.decode(buffer, start + 1, end);
    }
    return new Refusal(Object(JSON.parse(buffer.utf8Slice(start + 1, end))));
  } catch (error) {
    const message = `the platform's answer cannot be read: ${error.message}`;
    return new Refusal({ type: "InvalidAnswer", message, code: "internal" });
  }
}

const calls = new Calls();

module.exports = { HELPER_METHOD, STATE_COMMIT, STATE_GET, STATE_LIST, Refusal, calls };
