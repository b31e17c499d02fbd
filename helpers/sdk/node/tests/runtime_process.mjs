// Starts the real runtime over a real socket pair at descriptor 3 and speaks frames with it: the harness of these tests.
// Owns the platform's side of the contract as far as tests need it. Every wait is bounded by WAIT_MS.
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const WAIT_MS = 20_000;
const BOOT = path.join(path.dirname(path.dirname(fileURLToPath(import.meta.url))), "boot.cjs");
const HEADER_BYTES = 13;

export const INIT = 0x01, INVOKE = 0x02, CANCEL = 0x03, STOP = 0x04, PING = 0x05, ANSWER = 0x06;
export const BOOTED = 0x81, READY = 0x82, INIT_FAILED = 0x83, RESULT = 0x84, ERROR = 0x85, LOG = 0x86, PONG = 0x87;
export const CALL = 0x89, READS = 0x8a;
const FROM_RUNTIME = [BOOTED, READY, INIT_FAILED, RESULT, ERROR, LOG, PONG, CALL, READS];

const OPERATIONS = [undefined, "method", "get", "list", "commit"];
const HELPER = {
  instance_id: "0197", publisher: "acme", name: "geo", version: "1.2.0", instance: "my-geo", config: {}, data_version: 1,
  dir: null, purpose: "serve", methods: {},
};

export function pack(kind, requestId = 0, payload = Buffer.alloc(0)) {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(payload.length, 0);
  header[4] = kind;
  header.writeBigUInt64LE(BigInt(requestId), 5);
  return Buffer.concat([header, payload]);
}

export function invokePayload(event, { deadlineMs = Date.now() + 30_000, trace = "", raw = false } = {}) {
  const prefix = Buffer.alloc(26);
  for (let index = 0; index < 16; index += 1) {
    prefix[index] = index * 17;
  }
  prefix.writeBigUInt64LE(BigInt(deadlineMs), 16);
  prefix.writeUInt16LE(trace.length, 24);
  return Buffer.concat([prefix, Buffer.from(trace), raw ? event : Buffer.from(JSON.stringify(event))]);
}

/** A CALL's payload by the layout of the contract, apart from the code that writes it. */
function readCall(payload) {
  const bodyStart = 11 + payload.readUInt16LE(9);
  return {
    request: Number(payload.readBigUInt64LE(0)),
    operation: OPERATIONS[payload[8]],
    target: payload.toString("utf8", 11, bodyStart),
    body: payload.subarray(bodyStart),
  };
}

/** The writes of a commit's body: [key, form, value as text, time to live] for a put, [key] for a delete. */
export function readCommit(body) {
  const writes = [];
  for (let at = 0; at < body.length; ) {
    const keyEnd = at + 3 + body.readUInt16LE(at + 1);
    const key = body.toString("utf8", at + 3, keyEnd);
    if (body[at] === 2) {
      writes.push([key]);
      at = keyEnd;
    } else {
      const end = keyEnd + 13 + body.readUInt32LE(keyEnd + 9);
      const form = String.fromCharCode(body[keyEnd + 8]);
      writes.push([key, form, body.toString("utf8", keyEnd + 13, end), Number(body.readBigUInt64LE(keyEnd))]);
      at = end;
    }
  }
  return writes;
}

function readPayload(kind, payload) {
  if (kind === CALL) {
    return readCall(payload);
  }
  return kind === LOG || kind === PONG ? payload : JSON.parse(payload);
}

function bounded(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${WAIT_MS} ms for ${what}`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function textOf(stream) {
  const parts = [];
  for await (const part of stream) {
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** One runtime process, at first only started; `boot`, `init` and `call` take it further. */
export class Runtime {
  logs = [];
  #frames = [];
  #received = Buffer.alloc(0);
  #ended = false;
  #wake = () => {};

  constructor(files = {}) {
    this.folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "raas-sdk-test-")));
    for (const [name, text] of Object.entries(files)) {
      fs.mkdirSync(path.dirname(path.join(this.folder, name)), { recursive: true });
      fs.writeFileSync(path.join(this.folder, name), text);
    }
    // Node makes the fourth "pipe" with socketpair.
    const stdio = ["ignore", "pipe", "pipe", "pipe"];
    this.process = spawn(process.execPath, [BOOT], { stdio, env: { PATH: process.env.PATH } });
    this.socket = this.process.stdio[3];
    this.socket.on("data", (data) => this.#onData(data));
    this.socket.on("close", () => this.#onEnd());
    this.socket.on("error", () => this.#onEnd());
    this.exited = new Promise((resolve) => this.process.on("exit", (code, signal) => resolve(signal ?? code)));
    this.stdout = textOf(this.process.stdout);
    this.stderr = textOf(this.process.stderr);
  }

  #onData(data) {
    this.#received = Buffer.concat([this.#received, data]);
    for (;;) {
      const received = this.#received;
      if (received.length < HEADER_BYTES || received.length < HEADER_BYTES + received.readUInt32LE(0)) {
        break;
      }
      const end = HEADER_BYTES + received.readUInt32LE(0);
      const kind = received[4];
      const payload = received.subarray(HEADER_BYTES, end);
      this.#frames.push({ kind, id: received.readBigUInt64LE(5), payload: readPayload(kind, payload) });
      this.#received = received.subarray(end);
    }
    this.#wake();
  }

  #onEnd() {
    this.#ended = true;
    this.#wake();
  }

  send(...parts) {
    this.socket.write(Buffer.concat(parts));
  }

  /** The next frame as { kind, id, payload }, or null at the end of the connection. */
  async nextFrame() {
    while (this.#frames.length === 0) {
      if (this.#ended) {
        if (this.#received.length > 0) {
          throw new Error("the connection ended in the middle of a frame");
        }
        return null;
      }
      await bounded(new Promise((resolve) => (this.#wake = resolve)), "a frame");
    }
    const frame = this.#frames.shift();
    if (!FROM_RUNTIME.includes(frame.kind)) {
      throw new Error(`unknown kind ${frame.kind}`);
    }
    return frame;
  }

  /** The next frame that is not a LOG; the LOG frames before it go to `logs` as [id, stream, text]. */
  async nextAnswer() {
    for (;;) {
      const frame = await this.nextFrame();
      if (frame === null || frame.kind !== LOG) {
        return frame;
      }
      this.logs.push([Number(frame.id), frame.payload[0], frame.payload.toString("utf8", 1)]);
    }
  }

  /** Waits until a line was logged whose text contains `part`. */
  async nextLog(part) {
    while (!this.logs.some(([, , text]) => text.includes(part))) {
      const frame = await this.nextFrame();
      this.logs.push([Number(frame.id), frame.payload[0], frame.payload.toString("utf8", 1)]);
    }
  }

  async boot() {
    const frame = await this.nextAnswer();
    if (frame?.kind !== BOOTED) {
      throw new Error(`not BOOTED: ${JSON.stringify(frame)} ${await this.stderr}`);
    }
    return frame.payload;
  }

  /** `helper` has what differs from HELPER in a helper's INIT; `helpers` are the names of those that the code may call. */
  async init({ handler = "main.handler", env = {}, helper, helpers, check } = {}, ...more) {
    const settings = {
      handler, code_dir: this.folder, function_name: "tested", function_version: "7", memory_mb: 256, timeout_s: 30,
      concurrency: 8, env, helpers, check, helper: helper && { ...HELPER, ...helper },
    };
    this.send(pack(INIT, 0, Buffer.from(JSON.stringify(settings))), ...more);
    return this.nextAnswer();
  }

  async call(event, { id = 1, ...options } = {}) {
    this.send(pack(INVOKE, id, invokePayload(event, options)));
    const frame = await this.nextAnswer();
    if (frame === null) {
      throw new Error(`the runtime is gone: ${await this.stderr}`);
    }
    return frame;
  }

  /** The same in a runtime that records: `reads` beside kind and payload is what READS said before the answer. */
  async callRecorded(event, options) {
    const { kind, id, payload } = await this.call(event, options);
    if (kind !== READS) {
      throw new Error(`not READS: kind ${kind}, ${JSON.stringify(payload)}`);
    }
    const answer = await this.nextAnswer();
    if (answer.id !== id) {
      throw new Error(`READS of ${id} before the answer to ${answer.id}`);
    }
    return { reads: payload, kind: answer.kind, payload: answer.payload };
  }

  /** Starts a call of a helper's method; `nextAnswer` or `nextCall` say what becomes of it. */
  startMethod(method, args = {}, id = 1) {
    this.send(pack(INVOKE, id, invokePayload({ method, args })));
  }

  /** The next frame, which has to be a CALL, as { id, request, operation, target, body }. */
  async nextCall() {
    const { kind, id, payload } = (await this.nextAnswer()) ?? {};
    if (kind !== CALL) {
      throw new Error(`not a CALL: kind ${kind}, ${JSON.stringify(payload)}`);
    }
    return { id, ...payload };
  }

  /** Answers a CALL: with bytes as they are, with another value as JSON text. */
  answer(call, value = Buffer.alloc(0)) {
    const body = Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value));
    this.send(pack(ANSWER, call.id, Buffer.concat([Buffer.from([0]), body])));
  }

  refuse(call, fields) {
    this.send(pack(ANSWER, call.id, Buffer.concat([Buffer.from([1]), Buffer.from(JSON.stringify(fields))])));
  }

  exitStatus() {
    return bounded(this.exited, "the exit");
  }

  async close() {
    this.socket.destroy();
    this.process.kill("SIGKILL");
    await this.exitStatus();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Runs `body(runtime)` with a runtime that serves `code` as main.js, or the given files. */
export async function withRuntime(code, body, options = {}) {
  const runtime = new Runtime(typeof code === "string" ? { "main.js": code } : code);
  try {
    await runtime.boot();
    const ready = await runtime.init(options);
    if (ready?.kind !== READY) {
      throw new Error(`not READY: kind ${ready?.kind}, ${JSON.stringify(ready?.payload)}`);
    }
    await body(runtime, ready.payload);
  } finally {
    await runtime.close();
  }
}

/** The same for the helper class `Geo` of main.js; `facts` are of INIT's `helper`. */
export async function withHelper(code, body, facts = {}, options = {}) {
  await withRuntime(code, body, { handler: "main:Geo", helper: facts, ...options });
}

/** Runs `body(runtime)` with a runtime that has only been started. */
export async function withStarted(files, body) {
  const runtime = new Runtime(files);
  try {
    await body(runtime);
  } finally {
    await runtime.close();
  }
}
