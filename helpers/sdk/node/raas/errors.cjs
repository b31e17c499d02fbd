// Thrown values as the contract's error: type, message, and the function's own stack as bounded text.
// Owns what a caller gets to see of a failure. Must not throw, whatever was thrown: a proxy, a getter that throws, a cycle.
"use strict";

const path = require("node:path");
const { inspect } = require("node:util");
const { FAULT } = require("./helper_errors.cjs");

const STACK_MAX_BYTES = 32 << 10;
const MESSAGE_MAX_BYTES = 8 << 10;
const TYPE_MAX_BYTES = 256;
const CAUSES_MAX = 8;
const SDK_FOLDER = path.dirname(__dirname) + path.sep;

/** The JSON text of an error; it has a `code` only where the caller is at fault. */
function errorText(thrown, codeDir = "") {
  const { type, message, stack } = describe(thrown, codeDir);
  return JSON.stringify({
    type: bounded(type, TYPE_MAX_BYTES),
    message: bounded(message, MESSAGE_MAX_BYTES),
    stack: bounded(stack, STACK_MAX_BYTES),
    code: attempt(() => thrown[FAULT], undefined),
  });
}

function describe(thrown, codeDir) {
  if (!isError(thrown)) {
    const shown = attempt(() => inspect(thrown, { depth: 3 }), "a value that cannot be shown");
    return { type: "NonErrorThrown", message: shown, stack: "" };
  }
  return { type: typeName(thrown), message: ownFrames(text(thrown, "message")), stack: stackText(thrown, codeDir) };
}

function isError(thrown) {
  // Errors of other realms (vm) count too, hence not `instanceof`.
  return attempt(() => typeof thrown === "object" && thrown !== null && typeof thrown.stack === "string", false);
}

/** A class that does not set `name` inherits "Error", which tells nothing; its own name does. */
function typeName(error) {
  const name = text(error, "name");
  if (name !== "Error" && name !== "") {
    return name;
  }
  return attempt(() => String(error.constructor.name || "Error"), "Error");
}

function stackText(error, codeDir) {
  const parts = [];
  let part = error;
  for (let depth = 0; isError(part) && depth < CAUSES_MAX; depth += 1) {
    parts.push((depth > 0 ? "[cause]: " : "") + ownFrames(text(part, "stack")));
    const current = part;
    part = attempt(() => current.cause, undefined);
  }
  const stack = parts.join("\n");
  return codeDir === "" ? stack : stack.replaceAll(`file://${codeDir}/`, "").replaceAll(`${codeDir}/`, "");
}

/** Leaves out the lines that point into the runtime or into Node itself. */
function ownFrames(stack) {
  return stack.includes("\n") ? stack.split("\n").filter(isOwnLine).join("\n") : stack;
}

function isOwnLine(line) {
  // "- file" is a line of the list of requirers that a missing module comes with.
  if (/^(\s+at|-) /.test(line)) {
    return !line.includes(SDK_FOLDER) && !/\(?node:[\w/]+(:\d+)*\)?$/.test(line);
  }
  return true;
}

function text(error, key) {
  return attempt(() => String(error[key] ?? ""), "");
}

function attempt(action, otherwise) {
  try {
    return action();
  } catch {
    return otherwise;
  }
}

/** Text without lone surrogates and of at most `maxBytes`; what is too long loses its middle: both ends tell the most. */
function bounded(value, maxBytes) {
  const bytes = Buffer.from(value, "utf8");
  if (bytes.length <= maxBytes) {
    return bytes.toString("utf8");
  }
  const gap = `\n… [${bytes.length - maxBytes} bytes left out] …\n`;
  // A character cut in two becomes U+FFFD, three bytes for one at worst, at each end.
  const room = maxBytes - Buffer.byteLength(gap) - 12;
  const head = Math.floor(room / 3);
  return bytes.toString("utf8", 0, head) + gap + bytes.toString("utf8", bytes.length - (room - head));
}

module.exports = { errorText };
