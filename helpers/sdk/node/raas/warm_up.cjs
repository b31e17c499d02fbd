// Loads and runs, while the process waits in the pool, what the first call would otherwise pay for.
// Owns the list of modules and the rehearsal. Every idle process in the pool carries the modules, so one is on the list only
// if functions use it often. Must leave nothing behind that a function could see.
"use strict";

const frames = require("./frames.cjs");
const { errorText } = require("./errors.cjs");
const { Logs } = require("./logs.cjs");
const { Server } = require("./server.cjs");

const MODULES = [
  "node:crypto", "node:events", "node:fs/promises", "node:http", "node:stream", "node:timers/promises", "node:util",
];
// Enough for V8 to leave its slowest tier, few enough to stay within a few milliseconds.
const REHEARSALS = 30;
const INVOCATION = Buffer.concat([Buffer.alloc(26), Buffer.from('{"rehearsal":[1,"two",null]}')]);

/** Takes what a connection takes and sends it nowhere. */
const nowhere = { sendText() {}, sendBytes() {}, flush() {} };

async function warmUp() {
  MODULES.forEach((name) => require(name));
  // The first import of a process sets up the loader of ES modules, which takes milliseconds.
  await import("data:text/javascript,");
  await rehearse();
  errorText(new Error("rehearsal"));
}

/** Calls that print, await and answer, by the same code that serves real ones. Standard output must not be installed yet. */
async function rehearse() {
  const streams = [process.stdout, process.stderr];
  const writes = streams.map((stream) => stream.write);
  const logs = new Logs(nowhere);
  logs.install();
  const server = new Server(nowhere, logs, rehearsal, "");
  const reader = new frames.FrameReader((kind, requestId, ...payload) => server.invoke(requestId, ...payload));
  const header = Buffer.alloc(frames.HEADER_BYTES);
  frames.writeHeader(header, 0, INVOCATION.length, frames.INVOKE, 1);
  const frame = Buffer.concat([header, INVOCATION]);
  for (let count = 0; count < REHEARSALS; count += 1) {
    reader.feed(frame, frame.length);
    await null;
  }
  await new Promise((resolve) => server.whenQuiet(resolve));
  streams.forEach((stream, index) => (stream.write = writes[index]));
}

async function rehearsal(event, context) {
  await context.signal.aborted;
  console.log("rehearsal", event);
  console.error(context.invocation_id);
  return event;
}

module.exports = { warmUp };
