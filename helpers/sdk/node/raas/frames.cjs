// The frames of the contract (docs/contract-handler.md): kinds, limits, and an incremental parser.
// Owns the byte layout and nothing else: no sockets, no JSON.
"use strict";

const INIT = 0x01;
const INVOKE = 0x02;
const CANCEL = 0x03;
const STOP = 0x04;
const PING = 0x05;
const ANSWER = 0x06;

const BOOTED = 0x81;
const READY = 0x82;
const INIT_FAILED = 0x83;
const RESULT = 0x84;
const ERROR = 0x85;
const LOG = 0x86;
const PONG = 0x87;
const CALL = 0x89;
const READS = 0x8a;

const HEADER_BYTES = 13;
const PAYLOAD_MAX_BYTES = 8 << 20;

/** The other side sent what the contract does not allow; the connection is of no use any more. */
class ProtocolError extends Error {}
ProtocolError.prototype.name = "ProtocolError";

/**
 * A request id as the runtime keeps it. Ids are 64 bits on the wire; those a double holds exactly, which is all of them in
 * practice, stay plain numbers, because BigInts are several times as slow.
 */
function readRequestId(buffer, offset) {
  const low = buffer.readUInt32LE(offset);
  const high = buffer.readUInt32LE(offset + 4);
  return high < 0x200000 ? high * 0x100000000 + low : buffer.readBigUInt64LE(offset);
}

function writeHeader(buffer, offset, length, kind, requestId) {
  buffer.writeUInt32LE(length, offset);
  buffer[offset + 4] = kind;
  if (typeof requestId === "number") {
    buffer.writeUInt32LE(requestId >>> 0, offset + 5);
    buffer.writeUInt32LE(Math.floor(requestId / 0x100000000), offset + 9);
  } else {
    buffer.writeBigUInt64LE(requestId, offset + 5);
  }
}

/**
 * Cuts received bytes into frames and hands each to `onFrame(kind, requestId, buffer, start, end)`. The payload lies in
 * `buffer` between `start` and `end` and is only valid during the call: a whole frame is never copied.
 */
class FrameReader {
  #onFrame;
  #partial = null; // a frame whose end has not arrived: a buffer of its full size, or of a header's while that is incomplete
  #filled = 0;

  constructor(onFrame) {
    this.#onFrame = onFrame;
  }

  feed(buffer, size) {
    let start = 0;
    if (this.#partial !== null) {
      start = this.#fillPartial(buffer, size);
    }
    while (size - start >= HEADER_BYTES) {
      const end = start + HEADER_BYTES + checkedLength(buffer, start);
      if (end > size) {
        break;
      }
      this.#onFrame(buffer[start + 4], readRequestId(buffer, start + 5), buffer, start + HEADER_BYTES, end);
      start = end;
    }
    if (start < size) {
      this.#keepPartial(buffer, start, size);
    }
  }

  #keepPartial(buffer, start, size) {
    const frameBytes = size - start < HEADER_BYTES ? HEADER_BYTES : HEADER_BYTES + checkedLength(buffer, start);
    this.#partial = Buffer.allocUnsafe(frameBytes);
    this.#filled = buffer.copy(this.#partial, 0, start, size);
  }

  /** Continues the partial frame, hands it on when it is complete, and returns how many bytes of `buffer` it took. */
  #fillPartial(buffer, size) {
    let taken = 0;
    for (;;) {
      const partial = this.#partial;
      const copied = buffer.copy(partial, this.#filled, taken, size);
      this.#filled += copied;
      taken += copied;
      if (this.#filled < partial.length) {
        return taken;
      }
      const frameBytes = HEADER_BYTES + checkedLength(partial, 0);
      if (frameBytes === partial.length) {
        this.#partial = null;
        this.#filled = 0;
        this.#onFrame(partial[4], readRequestId(partial, 5), partial, HEADER_BYTES, frameBytes);
        return taken;
      }
      this.#partial = Buffer.allocUnsafe(frameBytes);
      partial.copy(this.#partial);
    }
  }
}

function checkedLength(buffer, start) {
  const length = buffer.readUInt32LE(start);
  if (length > PAYLOAD_MAX_BYTES) {
    throw new ProtocolError(`a frame of ${length} bytes is over the limit of ${PAYLOAD_MAX_BYTES}`);
  }
  return length;
}

module.exports = {
  INIT, INVOKE, CANCEL, STOP, PING, ANSWER,
  BOOTED, READY, INIT_FAILED, RESULT, ERROR, LOG, PONG, CALL, READS,
  HEADER_BYTES, PAYLOAD_MAX_BYTES,
  ProtocolError, FrameReader, writeHeader,
};
