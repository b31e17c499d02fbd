// Which parts of its event a handler looked at, and the READS frame that says so before each answer.
// Owns the pointers (RFC 6901) of a request, and what is told of them: the smallest parts that were looked at. How looking is
// noticed is in recorded_event.cjs. Is only loaded where INIT's `check` asks for it.
"use strict";

const { ERROR, READS, RESULT } = require("./frames.cjs");
const { currentOrigin } = require("./logs.cjs");
const { recorded } = require("./recorded_event.cjs");

// Who reads more than a frame may name reads the whole event.
const POINTERS_MAX = 64;
const PAYLOAD_MAX_BYTES = 64 << 10;
// How many are kept while the handler runs: what lies in a list that is read whole later makes place then.
const NOTED_MAX = 1024;

/** What one request reads. A part of the event is named by its pointer, the event itself by an empty one. */
class Reads {
  // Whose value, or absence, the handler knows.
  #lookedAt = new Set();
  // Objects and lists. Most are only on the way to something; one below which nothing was looked at may have been looked at
  // in a way that nobody notices: whether it is there, of which type it is.
  #handedOut = new Set();
  #whole = false;

  /** The event for the handler. Of one that has no members there is nothing to tell apart. */
  recorded(event) {
    this.#whole = typeof event !== "object" || event === null || Array.isArray(event) || Object.keys(event).length === 0;
    return this.#whole ? event : recorded(event, this);
  }

  lookAt(pointer) {
    this.#whole ||= pointer === "";
    this.#note(this.#lookedAt, pointer);
  }

  handOut(pointer) {
    if (pointer !== "") {
      this.#note(this.#handedOut, pointer);
    }
  }

  #note(noted, pointer) {
    if (this.#whole) {
      return;
    }
    noted.add(pointer);
    if (this.#lookedAt.size + this.#handedOut.size <= NOTED_MAX) {
      return;
    }
    for (const all of [this.#lookedAt, this.#handedOut]) {
      [...all].filter((one) => this.#liesInRead(one)).forEach((one) => all.delete(one));
    }
    if (this.#lookedAt.size + this.#handedOut.size > NOTED_MAX) {
      this.#whole = true;
      this.#lookedAt.clear();
      this.#handedOut.clear();
    }
  }

  #liesInRead(pointer) {
    return partsAbove(pointer).some((above) => this.#lookedAt.has(above));
  }

  #smallestParts() {
    const onTheWay = new Set([...this.#lookedAt, ...this.#handedOut].flatMap(partsAbove));
    const ends = [...this.#handedOut].filter((pointer) => !onTheWay.has(pointer));
    return [...new Set([...this.#lookedAt, ...ends])].filter((pointer) => !this.#liesInRead(pointer));
  }

  /** The payload of READS for what was read until now. */
  text() {
    const pointers = this.#whole ? [] : this.#smallestParts();
    const text = JSON.stringify({ pointers, whole: this.#whole });
    const fits = pointers.length <= POINTERS_MAX && Buffer.byteLength(text) <= PAYLOAD_MAX_BYTES;
    // No frame holds a name with a lone surrogate.
    return fits && !pointers.some((pointer) => /\p{Surrogate}/u.test(pointer)) ? text : WHOLE;
  }
}

const WHOLE = JSON.stringify({ pointers: [], whole: true });

/** The pointers of what a part lies in, without the event itself. */
function partsAbove(pointer) {
  const above = [];
  for (let end = pointer.lastIndexOf("/"); end > 0; end = pointer.lastIndexOf("/", end - 1)) {
    above.push(pointer.slice(0, end));
  }
  return above;
}

/** Stands between the server and its two neighbours: gives handlers events that record, and tells with each answer. */
class Recorder {
  #connection;
  #handler;
  #byRequest = new Map(); // Reads of the requests whose handler was given its event

  constructor(connection, handler) {
    this.#connection = connection;
    this.#handler = handler;
  }

  /** What the server takes for the handler. */
  handle = (event, context) => {
    const reads = new Reads();
    this.#byRequest.set(currentOrigin().requestId, reads);
    return this.#handler(reads.recorded(event), context);
  };

  /** What the server takes for the connection. */
  sendText(kind, requestId, text) {
    if (kind === RESULT || kind === ERROR) {
      // An event that could not be read was given to nobody.
      this.#connection.sendText(READS, requestId, this.#byRequest.get(requestId)?.text() ?? WHOLE);
      this.#byRequest.delete(requestId);
    }
    this.#connection.sendText(kind, requestId, text);
  }

  flush() {
    this.#connection.flush();
  }
}

module.exports = { Recorder };
