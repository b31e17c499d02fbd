// Keeps function code from reading, writing or closing the platform's socket by accident.
// Node cannot move a descriptor to another number, so 3 stays where it was inherited; the file functions are told that
// it does not exist. Children do not get it: Node marks inherited descriptors close-on-exec when it starts.
"use strict";

const fs = require("node:fs");
const { syncBuiltinESMExports } = require("node:module");
const { FD } = require("./connection.cjs");

const GUARDED = [
  "close", "closeSync", "read", "readSync", "readv", "readvSync", "write", "writeSync", "writev", "writevSync",
  "ftruncate", "ftruncateSync",
];

function refuse(operation) {
  const error = new Error(`EBADF: bad file descriptor, ${operation}`);
  error.code = "EBADF";
  error.errno = -9;
  error.syscall = operation.replace("Sync", "");
  return error;
}

/** Wraps the functions of `fs` that take a descriptor, for `require` and for `import` alike. */
function guardDescriptor() {
  for (const name of GUARDED) {
    const original = fs[name];
    const guarded = function (descriptor, ...rest) {
      if (descriptor !== FD) {
        return original.call(this, descriptor, ...rest);
      }
      const callback = rest[rest.length - 1];
      if (name.endsWith("Sync") || typeof callback !== "function") {
        throw refuse(name);
      }
      process.nextTick(callback, refuse(name));
    };
    Object.defineProperty(guarded, "name", { value: name });
    // `util.promisify(fs.read)` answers with an object by way of symbols on the function.
    for (const key of Object.getOwnPropertySymbols(original)) {
      Object.defineProperty(guarded, key, Object.getOwnPropertyDescriptor(original, key));
    }
    fs[name] = guarded;
  }
  syncBuiltinESMExports();
}

module.exports = { guardDescriptor };
