// Makes `require("raas")` and `import … from "raas"` find the SDK from code that lies in another folder.
// Owns how the name is resolved. `require` costs one comparison. `import` has hooks of its own, which are set up only where
// they cost nothing (module.registerHooks) or where code asks for the name (module.register starts a thread: some 35 ms).
"use strict";

const fs = require("node:fs");
const Module = require("node:module");
const path = require("node:path");
const { pathToFileURL } = require("node:url");

const NAME = "raas";
const FILE = path.join(__dirname, "index.cjs");
const ENTRY = { url: pathToFileURL(FILE).href, format: "commonjs", shortCircuit: true };
const SCANNED_FILES_MAX = 2000;
const SPECIFIER = /(?:\bfrom|\bimport)\s*\(?\s*["']([^"'\n]+)["']/g;

/** For `require`, from anywhere. The platform's SDK comes before a package of that name, as Node's own modules do. */
function provideForRequire() {
  const resolveFilename = Module._resolveFilename;
  Module._resolveFilename = function (request, parent, isMain, options) {
    return request === NAME ? FILE : resolveFilename.call(this, request, parent, isMain, options);
  };
}

/**
 * For `import`, in the code that begins with `file`; called once, before it is loaded. Returns true if `file` has to be
 * loaded by `import`, since an ES module that comes by `require` would not find the name.
 */
function provideForImport(file) {
  if (typeof Module.registerHooks === "function") {
    Module.registerHooks({ resolve: (specifier, context, next) => (specifier === NAME ? ENTRY : next(specifier, context)) });
  } else if (typeof Module.register === "function" && importsName(file)) {
    const hook = `const entry = ${JSON.stringify(ENTRY)};
      export async function resolve(specifier, context, next) {
        return specifier === "${NAME}" ? entry : next(specifier, context);
      }`;
    Module.register(`data:text/javascript,${encodeURIComponent(hook)}`);
    return true;
  }
  return false;
}

/** True if the file, or one that it imports by a relative path, imports the SDK. Installed packages are not looked into. */
function importsName(file) {
  const files = new Set([file]);
  for (const current of files) {
    const text = textOf(current);
    for (const [, specifier] of text.matchAll(SPECIFIER)) {
      if (specifier === NAME) {
        return true;
      }
      if (/^\.\.?\//.test(specifier) && files.size < SCANNED_FILES_MAX) {
        files.add(path.resolve(path.dirname(current), specifier.split(/[?#]/, 1)[0]));
      }
    }
  }
  return false;
}

function textOf(file) {
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    // Node says it better when it comes to this import.
    return "";
  }
}

module.exports = { provideForImport, provideForRequire };
