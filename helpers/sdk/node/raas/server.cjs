// Serves invocations: from INVOKE frame to RESULT or ERROR, any number in flight.
// Owns the table of requests in flight and the layout of the INVOKE payload. One path for plain and async handlers, and for
// helpers.
"use strict";

const { calls } = require("./calls.cjs");
const { Context, cancel } = require("./context.cjs");
const { errorText } = require("./errors.cjs");
const { ERROR, RESULT } = require("./frames.cjs");
const { Origin, runAs } = require("./logs.cjs");
const { resultText } = require("./results.cjs");

const ID_BYTES = 16;
const PREFIX_BYTES = ID_BYTES + 8 + 2;

/** The event is not the JSON text that the contract promises. */
class InvalidEvent extends Error {}
InvalidEvent.prototype.name = "InvalidEvent";

class Request {
  context = null;

  constructor(id) {
    this.id = id;
    this.origin = new Origin(id);
  }
}

class Server {
  #connection;
  #logs;
  #handler;
  #codeDir;
  #inFlight = new Map();
  #onQuiet = null;

  constructor(connection, logs, handler, codeDir) {
    this.#connection = connection;
    this.#logs = logs;
    this.#handler = handler;
    this.#codeDir = codeDir;
  }

  /** Starts one call; the payload lies in `buffer` between `start` and `end`, for the time of this call only. */
  invoke(requestId, buffer, start, end) {
    const request = new Request(requestId);
    this.#inFlight.set(requestId, request);
    let value;
    try {
      const event = readInvocation(request, buffer, start, end);
      value = runAs(request.origin, this.#handler, event, request.context);
      if (isThenable(value)) {
        value.then(
          (result) => this.#succeed(request, result),
          (thrown) => this.#fail(request, thrown),
        );
        return;
      }
    } catch (thrown) {
      this.#fail(request, thrown);
      return;
    }
    this.#succeed(request, value);
  }

  cancel(requestId) {
    const request = this.#inFlight.get(requestId);
    if (request !== undefined) {
      runAs(request.origin, cancel, request.context);
      calls.cancel(request.origin);
    }
  }

  /** Calls back when nothing is in flight any more. */
  whenQuiet(callback) {
    this.#onQuiet = callback;
    this.#checkQuiet();
  }

  /** Answers everything in flight with the same error: the process is about to end because of it. */
  failAll(thrown) {
    const error = { ...JSON.parse(errorText(thrown, this.#codeDir)), ends: true };
    const text = JSON.stringify(error);
    for (const request of [...this.#inFlight.values()]) {
      if (this.#close(request)) {
        this.#connection.sendText(ERROR, request.id, text);
      }
    }
    this.#connection.flush();
  }

  #succeed(request, value) {
    let text;
    try {
      text = resultText(value);
    } catch (error) {
      this.#fail(request, error);
      return;
    }
    if (request.origin.writes === null) {
      this.#answer(request, text);
      return;
    }
    // What a caller was told is there: the answer waits for what the call wrote.
    runAs(request.origin, () => request.origin.writes.commit()).then(
      () => this.#answer(request, text),
      (thrown) => this.#fail(request, thrown),
    );
  }

  #answer(request, text) {
    if (this.#close(request)) {
      this.#connection.sendText(RESULT, request.id, text);
      this.#checkQuiet();
    }
  }

  #fail(request, thrown) {
    if (this.#close(request)) {
      this.#connection.sendText(ERROR, request.id, errorText(thrown, this.#codeDir));
      this.#checkQuiet();
    }
  }

  /** Sends the last log line and frees the id. False if the request was answered already. */
  #close(request) {
    if (!request.origin.open) {
      return false;
    }
    if (request.origin.lines !== null) {
      this.#logs.finish(request.origin);
    }
    calls.drop(request.origin);
    request.origin.open = false;
    this.#inFlight.delete(request.id);
    return true;
  }

  #checkQuiet() {
    if (this.#onQuiet !== null && this.#inFlight.size === 0) {
      this.#connection.flush();
      this.#onQuiet();
    }
  }
}

function readInvocation(request, buffer, start, end) {
  const traceStart = start + PREFIX_BYTES;
  const eventStart = traceStart <= end ? traceStart + buffer.readUInt16LE(start + ID_BYTES + 8) : traceStart;
  if (eventStart > end) {
    throw new InvalidEvent("the event cannot be read: the invocation is cut off");
  }
  const deadlineMs = buffer.readUInt32LE(start + ID_BYTES + 4) * 0x100000000 + buffer.readUInt32LE(start + ID_BYTES);
  request.context = new Context(
    buffer.latin1Slice(start, start + ID_BYTES),
    deadlineMs,
    eventStart === traceStart ? "" : buffer.latin1Slice(traceStart, eventStart),
  );
  try {
    return JSON.parse(buffer.utf8Slice(eventStart, end));
  } catch (error) {
    throw new InvalidEvent(`the event cannot be read: ${error.message}`);
  }
}

function isThenable(value) {
  return typeof value === "object" && value !== null && typeof value.then === "function";
}

module.exports = { Server };
