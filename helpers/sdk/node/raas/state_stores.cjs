// Where a helper's state is kept: by the platform, or, outside it, in the memory of a unit test.
// Owns the bytes of the state operations of docs/contract-helper.md.
"use strict";

const { Refusal, STATE_COMMIT, STATE_GET, STATE_LIST, calls } = require("./calls.cjs");
const { StateError } = require("./helper_errors.cjs");
const { inByteOrder } = require("./state.cjs");

const PUT = 1;
const DELETE = 2;
const NOTHING = Buffer.alloc(0);

/** Values are { form, bytes }; a write is { key, value (null: delete), ttlMs (0: for ever), size (bytes in a commit) }. */
const platformStore = {
  async get(key) {
    return checked(await calls.ask(STATE_GET, key, NOTHING, readValue));
  },

  async list(prefix, limit) {
    const body = Buffer.allocUnsafe(4);
    body.writeUInt32LE(limit);
    return checked(await calls.ask(STATE_LIST, prefix, body, readJson));
  },

  async commit(writes) {
    checked(await calls.ask(STATE_COMMIT, "", commitBody(writes), () => null));
  },
};

function checked(answer) {
  if (answer instanceof Refusal) {
    throw new StateError(answer.fields);
  }
  return answer;
}

function readJson(buffer, start, end) {
  return JSON.parse(buffer.utf8Slice(start, end));
}

function readValue(buffer, start, end) {
  return start === end ? null : { form: buffer[start], bytes: Buffer.from(buffer.subarray(start + 1, end)) };
}

function commitBody(writes) {
  const body = Buffer.allocUnsafe(writes.reduce((size, write) => size + write.size, 0));
  let end = 0;
  for (const { key, value, ttlMs } of writes) {
    body[end] = value === null ? DELETE : PUT;
    const keyBytes = body.write(key, end + 3, "utf8");
    body.writeUInt16LE(keyBytes, end + 1);
    end += 3 + keyBytes;
    if (value !== null) {
      body.writeBigUInt64LE(BigInt(ttlMs), end);
      body[end + 8] = value.form;
      body.writeUInt32LE(value.bytes.length, end + 9);
      end += 13 + value.bytes.copy(body, end + 13);
    }
  }
  return body;
}

class MemoryStore {
  #entries = new Map();

  async get(key) {
    const entry = this.#entries.get(key);
    return entry === undefined || entry.endsMs <= Date.now() ? null : entry.value;
  }

  async list(prefix, limit) {
    const now = Date.now();
    const entries = [...this.#entries].filter(([key, entry]) => key.startsWith(prefix) && entry.endsMs > now);
    return inByteOrder(entries.map(([key]) => key)).slice(0, limit);
  }

  async commit(writes) {
    for (const { key, value, ttlMs } of writes) {
      if (value === null) {
        this.#entries.delete(key);
      } else {
        this.#entries.set(key, { value, endsMs: ttlMs === 0 ? Infinity : Date.now() + ttlMs });
      }
    }
  }
}

module.exports = { MemoryStore, platformStore };
