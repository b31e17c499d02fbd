// The socket to the platform: receives by the event loop, sends whole frames, several in one write.
// Owns descriptor 3 and the output buffer. Knows nothing of what the frames say.
"use strict";

const fs = require("node:fs");
const net = require("node:net");
const { HEADER_BYTES, PAYLOAD_MAX_BYTES, writeHeader } = require("./frames.cjs");

const FD = 3;
const RECEIVE_BYTES = 64 << 10;
const BATCH_BYTES = 128 << 10;
// UTF-16 code units become at most three bytes of UTF-8 each.
const UTF8_BYTES_PER_UNIT = 3;
const RETRY_MS = 1;

// Kept from before user code can replace them.
const { writeSync } = fs;
const { wait } = Atomics;
const { now } = Date;
const exitAtOnce = process.reallyExit.bind(process);

class Connection {
  #batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
  #batched = 0;
  #batchStartedMs = 0;
  #flushPlanned = false;
  #socket = null;
  #flushLater = () => {
    this.#flushPlanned = false;
    this.flush();
  };

  /** Starts receiving: `onBytes(buffer, size)` for what arrived, valid during the call; `onEnd()` once. */
  open(onBytes, onEnd) {
    const buffer = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
    this.#socket = new net.Socket({
      fd: FD,
      readable: true,
      writable: true,
      allowHalfOpen: true,
      onread: {
        buffer,
        callback: (size) => {
          onBytes(buffer, size);
          return true;
        },
      },
    });
    this.#socket.on("end", onEnd);
    this.#socket.on("error", onEnd);
    // With `onread` nothing flows until somebody reads.
    this.#socket.read(0);
  }

  /** Queues one frame; all frames of one turn of the event loop leave in one write. */
  sendText(kind, requestId, text) {
    const most = HEADER_BYTES + text.length * UTF8_BYTES_PER_UNIT;
    if (most > BATCH_BYTES) {
      this.sendBytes(kind, requestId, Buffer.from(text, "utf8"));
      return;
    }
    if (most > BATCH_BYTES - this.#batched) {
      this.flush();
    }
    const start = this.#batched;
    const length = this.#batch.write(text, start + HEADER_BYTES, "utf8");
    writeHeader(this.#batch, start, length, kind, requestId);
    this.#batched = start + HEADER_BYTES + length;
    this.#planFlush();
  }

  /** The same for a payload that is bytes already. */
  sendBytes(kind, requestId, payload) {
    const size = HEADER_BYTES + payload.length;
    if (payload.length > PAYLOAD_MAX_BYTES) {
      throw new RangeError(`a payload of ${payload.length} bytes does not fit in a frame`);
    }
    if (size > BATCH_BYTES - this.#batched) {
      this.flush();
    }
    if (size > BATCH_BYTES) {
      const header = Buffer.allocUnsafe(HEADER_BYTES);
      writeHeader(header, 0, payload.length, kind, requestId);
      this.#write(header, HEADER_BYTES);
      this.#write(payload, payload.length);
      return;
    }
    writeHeader(this.#batch, this.#batched, payload.length, kind, requestId);
    payload.copy(this.#batch, this.#batched + HEADER_BYTES);
    this.#batched += size;
    this.#planFlush();
  }

  #planFlush() {
    if (this.#flushPlanned && now() !== this.#batchStartedMs) {
      // Handlers that compute for long without awaiting: an answer does not wait for the next one's computation.
      this.flush();
    } else if (!this.#flushPlanned) {
      this.#batchStartedMs = now();
      this.#flushPlanned = true;
      // Runs after the promises that are due now, so that their answers go into the same write.
      process.nextTick(this.#flushLater);
    }
  }

  /** Sends what is queued before anything else happens: for log lines, which must survive a crash. */
  flush() {
    const size = this.#batched;
    if (size > 0) {
      this.#batched = 0;
      this.#write(this.#batch, size);
    }
  }

  // A plain write is a third of the cost of the stream's, and never leaves half a frame in a queue that a crash would lose.
  // The platform always reads, so waiting for a full socket is short.
  #write(buffer, size) {
    let sent = 0;
    while (sent < size) {
      try {
        sent += writeSync(FD, buffer, sent, size - sent);
      } catch (error) {
        if (error.code !== "EAGAIN") {
          // The platform is gone, and with it the reason to live.
          exitAtOnce(0);
        }
        wait(pause, 0, 0, RETRY_MS);
      }
    }
  }
}

const pause = new Int32Array(new SharedArrayBuffer(4));

module.exports = { Connection, FD };
