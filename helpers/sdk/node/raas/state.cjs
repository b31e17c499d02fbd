// `this.state` of a helper: keys and values that survive restarts.
// Owns what may be written, the writes of a call until they are committed, and that a call sees its own. Where the values
// are kept is a store's business: `get(key)`, `list(prefix, limit)` and `commit(writes)`, all async (state_stores.cjs).
"use strict";

const { StateError } = require("./helper_errors.cjs");
const { INSTANCE, currentOrigin } = require("./logs.cjs");
const { strictText } = require("./results.cjs");

const KEY_MAX_BYTES = 512;
const VALUE_MAX_BYTES = 1 << 20;
const COMMIT_MAX_BYTES = 4 << 20;
const COMMIT_MAX_WRITES = 1000;
const LIST_LIMIT = 100;
const LIST_LIMIT_MAX = 1000; // the platform lists no more at once
const MILLISECONDS = 1000;
const TTL_MAX_MS = Number.MAX_SAFE_INTEGER;
const JSON_FORM = 0x6a; // "j"
const BYTES_FORM = 0x62; // "b"
// What a write takes of a commit beside its key and value: what, key length, and for a put time to live, form, value length.
const DELETE_BYTES = 1 + 2;
const PUT_BYTES = DELETE_BYTES + 8 + 1 + 4;

/** The writes of one call or hook, the last one of each key, until they are committed together. */
class Writes {
  #store;
  #byKey = new Map();
  #bytes = 0;
  #committed = null;

  constructor(store) {
    this.#store = store;
  }

  add(write) {
    if (this.#committed !== null) {
      const message = "the call has returned and its writes are being committed: await what writes before returning";
      throw refused("late-write", message);
    }
    const replaced = this.#byKey.get(write.key);
    const bytes = this.#bytes + write.size - (replaced?.size ?? 0);
    if (bytes > COMMIT_MAX_BYTES) {
      throw refused("commit-too-large", `the writes of one call are ${bytes} bytes, over the limit of ${COMMIT_MAX_BYTES}`);
    }
    if (replaced === undefined && this.#byKey.size === COMMIT_MAX_WRITES) {
      throw refused("commit-too-large", `one call writes at most ${COMMIT_MAX_WRITES} keys`);
    }
    this.#byKey.set(write.key, write);
    this.#bytes = bytes;
  }

  get(key) {
    return this.#byKey.get(key);
  }

  withPrefix(prefix) {
    return [...this.#byKey.values()].filter((write) => write.key.startsWith(prefix));
  }

  /** Once, however often it is asked for; nothing can be written any more. */
  commit() {
    this.#committed ??= this.#byKey.size === 0 ? Promise.resolve() : this.#store.commit([...this.#byKey.values()]);
    return this.#committed;
  }
}

class State {
  #store;

  constructor(store) {
    this.#store = store;
  }

  /** The value of a key, or `otherwise`. JSON values come as new objects, bytes as a Buffer. */
  async get(key, otherwise = null) {
    checkKey(key);
    const write = currentOrigin().writes?.get(key);
    const found = write === undefined ? await this.#store.get(key) : write.value;
    return found === null ? otherwise : decoded(found);
  }

  /** Sets a key to a JSON value or bytes, for `ttl_s` seconds where given. */
  async put(key, value, options = {}) {
    checkKey(key);
    const ttlMs = checkedTtl(options);
    const encoded = encodedValue(key, value);
    await this.#write({ key, value: encoded, ttlMs, size: PUT_BYTES + Buffer.byteLength(key) + encoded.bytes.length });
  }

  async delete(key) {
    checkKey(key);
    await this.#write({ key, value: null, ttlMs: 0, size: DELETE_BYTES + Buffer.byteLength(key) });
  }

  /** The first `limit` keys that begin with `prefix`, in the order of their bytes. */
  async list(prefix = "", limit = LIST_LIMIT) {
    if (typeof prefix !== "string" || !isWellFormed(prefix) || Buffer.byteLength(prefix) > KEY_MAX_BYTES) {
      throw refused("invalid-key", `a prefix is text of at most ${KEY_MAX_BYTES} bytes`);
    }
    if (!Number.isInteger(limit) || limit < 1 || limit > LIST_LIMIT_MAX) {
      throw refused("invalid-limit", `a limit is a whole number from 1 to ${LIST_LIMIT_MAX}, not ${String(limit)}`);
    }
    const writes = currentOrigin().writes?.withPrefix(prefix) ?? [];
    const deleted = writes.filter((write) => write.value === null);
    // So many more that enough are left without those that the call deleted.
    const keys = new Set(await this.#store.list(prefix, limit + deleted.length));
    if (writes.length === 0) {
      return [...keys];
    }
    writes.forEach((write) => (write.value === null ? keys.delete(write.key) : keys.add(write.key)));
    return inByteOrder([...keys]).slice(0, limit);
  }

  async #write(write) {
    const origin = currentOrigin();
    if (origin === INSTANCE && origin.writes === null) {
      // Outside a call there is no answer to wait for.
      await this.#store.commit([write]);
    } else {
      origin.writes ??= new Writes(this.#store);
      origin.writes.add(write);
    }
  }

  /** For hooks that run outside a request: what `hook` writes is committed when it returned, and not at all if it throws. */
  async collect(hook) {
    const writes = new Writes(this.#store);
    INSTANCE.writes = writes;
    try {
      await hook();
    } finally {
      // What the hook left running is not waited for: from here on it commits by itself.
      INSTANCE.writes = null;
    }
    await writes.commit();
  }
}

function refused(code, message) {
  return new StateError({ type: "InvalidState", code, message, origin: "helper" });
}

function checkKey(key) {
  if (typeof key !== "string" || !isWellFormed(key)) {
    throw refused("invalid-key", `a key is text, not ${typeof key === "string" ? "with a lone surrogate" : typeof key}`);
  }
  const size = Buffer.byteLength(key);
  if (size < 1 || size > KEY_MAX_BYTES) {
    throw refused("invalid-key", `a key has 1 to ${KEY_MAX_BYTES} bytes, not ${size}`);
  }
}

function isWellFormed(text) {
  return !/\p{Surrogate}/u.test(text);
}

function checkedTtl(options) {
  if (typeof options !== "object" || options === null) {
    throw refused("invalid-ttl", "the third argument of put is an object: { ttl_s }");
  }
  const seconds = options.ttl_s ?? null;
  if (seconds === null) {
    return 0;
  }
  const ms = typeof seconds === "number" ? Math.ceil(seconds * MILLISECONDS) : NaN;
  if (!(ms > 0 && ms <= TTL_MAX_MS)) {
    throw refused("invalid-ttl", `ttl_s is a number of seconds above 0, not ${String(seconds)}`);
  }
  return ms;
}

/** Written down at once, so that what the caller changes afterwards changes nothing here. */
function encodedValue(key, value) {
  const isBytes = value instanceof Uint8Array;
  const what = `the value of "${key}"`;
  const bytes = Buffer.from(isBytes ? value : strictText(value, what, (message) => refused("not-serializable", message)));
  if (bytes.length > VALUE_MAX_BYTES) {
    throw refused("value-too-large", `${what} is ${bytes.length} bytes, over the limit of ${VALUE_MAX_BYTES}`);
  }
  return { form: isBytes ? BYTES_FORM : JSON_FORM, bytes };
}

function decoded({ form, bytes }) {
  return form === JSON_FORM ? JSON.parse(bytes.toString("utf8")) : Buffer.from(bytes);
}

function inByteOrder(keys) {
  return keys
    .map((key) => [key, Buffer.from(key, "utf8")])
    .sort(([, one], [, other]) => Buffer.compare(one, other))
    .map(([key]) => key);
}

module.exports = { State, inByteOrder };
