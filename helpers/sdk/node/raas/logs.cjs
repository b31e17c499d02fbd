// Standard output and error as LOG frames, each tied to the request that printed it.
// Owns `process.stdout.write` and `process.stderr.write`, the splitting into lines, and whose line it is. Raw writes to
// descriptors 1 and 2 are not touched: they reach the platform by the pipes.
"use strict";

const { AsyncLocalStorage } = require("node:async_hooks");
const { LOG } = require("./frames.cjs");

const STDOUT = 1;
const STDERR = 2;
// The whole payload, stream byte included, stays within 64 KiB.
const LINE_MAX_BYTES = (64 << 10) - 1;
const CUT_MARKER = " … [line cut at 64 KiB]";
const NEWLINE = 0x0a;

/**
 * Who prints, writes and calls: a request, or (id 0) the instance itself. Holds what is not finished yet, such as lines
 * without a newline.
 */
class Origin {
  open = true;
  cancelled = false;
  lines = null; // by stream number: text, or a PartialBytes after a write of bytes
  writes = null; // to the helper's state, committed before the answer: a Writes of state.cjs
  calls = null; // CALLs that were not answered yet: a Set that calls.cjs owns

  constructor(requestId) {
    this.requestId = requestId;
  }
}

const INSTANCE = new Origin(0);
const storage = new AsyncLocalStorage();

/** Runs `call` such that what it prints, now or in what it starts, belongs to `origin`. */
function runAs(origin, call, first, second) {
  return storage.run(origin, call, first, second);
}

function currentOrigin() {
  const origin = storage.getStore();
  // What is left running after its request was answered belongs to the instance.
  return origin !== undefined && origin.open ? origin : INSTANCE;
}

/** The payload of a LOG frame for one line; too long a line is cut and marked. Lone surrogates become U+FFFD. */
function linePayload(stream, line) {
  let text = Buffer.from(line, "utf8");
  if (text.length > LINE_MAX_BYTES) {
    const marker = Buffer.from(CUT_MARKER, "utf8");
    let end = LINE_MAX_BYTES - marker.length;
    // Not in the middle of a character: continuation bytes are 10xxxxxx.
    while ((text[end] & 0xc0) === 0x80) {
      end -= 1;
    }
    text = Buffer.concat([text.subarray(0, end), marker]);
  }
  const payload = Buffer.allocUnsafe(1 + text.length);
  payload[0] = stream;
  text.copy(payload, 1);
  return payload;
}

class Logs {
  #connection;

  constructor(connection) {
    this.#connection = connection;
  }

  /** Replaces the two `write` functions; the rest of the streams stays as it is. */
  install() {
    this.#replaceWrite(process.stdout, STDOUT);
    this.#replaceWrite(process.stderr, STDERR);
  }

  #replaceWrite(target, stream) {
    target.write = (chunk, encoding, callback) => {
      const done = typeof encoding === "function" ? encoding : callback;
      if (typeof chunk === "string") {
        const isOtherEncoding = typeof encoding === "string" && !/^utf-?8$/i.test(encoding);
        this.#print(stream, isOtherEncoding ? Buffer.from(chunk, encoding) : chunk);
      } else if (ArrayBuffer.isView(chunk)) {
        this.#print(stream, Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
      } else {
        const error = new TypeError('The "chunk" argument must be of type string or an instance of Buffer or Uint8Array.');
        error.code = "ERR_INVALID_ARG_TYPE";
        throw error;
      }
      if (typeof done === "function") {
        process.nextTick(done);
      }
      return true;
    };
  }

  #print(stream, chunk) {
    const origin = currentOrigin();
    origin.lines ??= [null, null, null];
    if (typeof chunk === "string" && !Buffer.isBuffer(origin.lines[stream])) {
      this.#printText(stream, origin, chunk);
    } else {
      this.#printBytes(stream, origin, typeof chunk === "string" ? Buffer.from(chunk, "utf8") : chunk);
    }
  }

  #printText(stream, origin, text) {
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", start)) {
      const before = origin.lines[stream];
      origin.lines[stream] = null;
      const line = text.slice(start, end);
      this.#send(stream, origin, before === null ? line : before + line);
      start = end + 1;
    }
    if (start < text.length) {
      // One more than fits is enough to know that the line has to be cut.
      origin.lines[stream] = ((origin.lines[stream] ?? "") + text.slice(start)).slice(0, LINE_MAX_BYTES + 1);
    }
    this.#connection.flush();
  }

  // Bytes may end in the middle of a character, so a line that has any is kept as bytes.
  #printBytes(stream, origin, bytes) {
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      const line = joined(origin.lines[stream], bytes.subarray(start, end));
      origin.lines[stream] = null;
      this.#send(stream, origin, line.toString("utf8"));
      start = end + 1;
    }
    if (start < bytes.length) {
      origin.lines[stream] = joined(origin.lines[stream], bytes.subarray(start)).subarray(0, LINE_MAX_BYTES + 1);
    }
    this.#connection.flush();
  }

  #send(stream, origin, line) {
    this.#connection.sendBytes(LOG, origin.requestId, linePayload(stream, line));
  }

  /** Sends what the origin printed without a newline at the end; called when its request is about to be answered. */
  finish(origin) {
    for (const stream of [STDOUT, STDERR]) {
      const line = origin.lines[stream];
      if (line !== null) {
        origin.lines[stream] = null;
        this.#send(stream, origin, typeof line === "string" ? line : line.toString("utf8"));
      }
    }
  }
}

function joined(before, bytes) {
  if (before === null) {
    return Buffer.from(bytes);
  }
  return Buffer.concat([typeof before === "string" ? Buffer.from(before, "utf8") : before, bytes]);
}

module.exports = { INSTANCE, Logs, Origin, currentOrigin, runAs };
