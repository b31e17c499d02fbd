// Loads the function or the helper's class: environment, working folder, and what INIT names, from CommonJS or ES modules.
// Owns the explanations of what can be wrong with a handler name, since this is the first thing a new author gets wrong.
// Must not run before INIT: until then the process belongs to nobody.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const { provideForImport } = require("./public_name.cjs");

const EXTENSIONS = [".js", ".mjs", ".cjs"];
const SHOWN_NAMES_MAX = 20;
const ES_MODULE_SYNTAX = /import statement outside a module|Unexpected token 'export'|import\.meta|await is only valid/;
const SYNTAX_CHECK_TIMEOUT_MS = 5000;

/** INIT names a file or an export that is not there. */
class HandlerNotFound extends Error {}
HandlerNotFound.prototype.name = "HandlerNotFound";

/** INIT names something that cannot be called. */
class HandlerNotCallable extends Error {}
HandlerNotCallable.prototype.name = "HandlerNotCallable";

/** INIT's handler is not of the form `module.export`. */
class InvalidHandlerName extends Error {}
InvalidHandlerName.prototype.name = "InvalidHandlerName";

/** The function that INIT names; throws one of the above or whatever the function's own code throws. */
async function loadHandler(settings) {
  const { loaded, exportName, file } = await loadNamed(settings, ".", "module.export");
  return callable(pickExport(loaded, exportName, settings.handler, file), settings.handler);
}

/** What a helper's entry, `module:Class`, names: the export of that name, else the default export or what the module is. */
async function loadHelperClass(settings) {
  const { loaded, exportName, file } = await loadNamed(settings, ":", "module:Class");
  const whole = [loaded?.default?.default, loaded?.default, loaded].find((value) => typeof value === "function");
  const isNamed = exportName in Object(loaded) || exportName in Object(loaded?.default);
  return isNamed || whole === undefined ? pickExport(loaded, exportName, settings.handler, file) : whole;
}

/** Loads the module of the name that INIT's `handler` is, such as `module.export`. */
async function loadNamed(settings, separator, form) {
  Object.assign(process.env, settings.env);
  process.chdir(settings.code_dir);
  const name = settings.handler;
  const end = name.lastIndexOf(separator);
  if (end <= 0 || end === name.length - 1 || name.split("/").includes("..") || path.isAbsolute(name)) {
    throw new InvalidHandlerName(`handler "${name}" is not of the form ${form}`);
  }
  const file = findFile(settings.code_dir, name.slice(0, end), name);
  const loaded = await loadModule(file, settings.code_dir);
  return { loaded, exportName: name.slice(end + 1), file: path.relative(settings.code_dir, file) };
}

function findFile(codeDir, moduleName, name) {
  const base = path.join(codeDir, moduleName);
  for (const candidate of [base, path.join(base, "index")].flatMap((stem) => EXTENSIONS.map((end) => stem + end))) {
    if (fs.statSync(candidate, { throwIfNoEntry: false })?.isFile()) {
      return candidate;
    }
  }
  const files = fs.readdirSync(codeDir).filter((entry) => EXTENSIONS.includes(path.extname(entry))).sort();
  const there = files.length > 0 ? `it has: ${listed(files)}` : "it has no .js, .mjs or .cjs file";
  const missing = `there is no ${moduleName}.js, .mjs or .cjs in the function's folder`;
  throw new HandlerNotFound(`handler "${name}": ${missing}; ${there}`);
}

async function loadModule(file, codeDir) {
  const isToBeImported = provideForImport(file);
  // `require` is the quicker way, by milliseconds; what turns out to be an ES module is imported.
  if (!isToBeImported && (file.endsWith(".cjs") || (file.endsWith(".js") && packageType(file, codeDir) !== "module"))) {
    try {
      return require(file);
    } catch (error) {
      if (!isEsModuleTrouble(error)) {
        throw error;
      }
    }
  }
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    throw withPlace(error, file);
  }
}

/** The `type` of the nearest package.json, looked for up to the function's folder. */
function packageType(file, codeDir) {
  for (let folder = path.dirname(file); folder.startsWith(codeDir); folder = path.dirname(folder)) {
    const manifest = path.join(folder, "package.json");
    if (fs.existsSync(manifest)) {
      return JSON.parse(fs.readFileSync(manifest, "utf8")).type;
    }
  }
  return undefined;
}

function isEsModuleTrouble(error) {
  return (
    error?.code === "ERR_REQUIRE_ESM" ||
    error?.code === "ERR_REQUIRE_ASYNC_MODULE" ||
    (error instanceof SyntaxError && ES_MODULE_SYNTAX.test(error.message))
  );
}

/** V8 keeps the place of a syntax error in an ES module to itself; asking `node --check` brings it out. */
function withPlace(error, file) {
  if (error instanceof SyntaxError && !/^\S+:\d+\n/.test(error.stack)) {
    const { spawnSync } = require("node:child_process");
    const checked = spawnSync(process.execPath, ["--check", file], {
      encoding: "utf8",
      stdio: ["ignore", "ignore", "pipe"],
      timeout: SYNTAX_CHECK_TIMEOUT_MS,
    });
    const place = checked.status ? checked.stderr.split("\n\n", 1)[0] : "";
    if (place !== "") {
      error.stack = `${place}\n\n${error.stack}`;
    }
  }
  return error;
}

function pickExport(loaded, exportName, name, file) {
  const whole = Object(loaded);
  // A CommonJS module that was imported has its exports under `default`.
  const inner = Object(whole.default);
  const handler = exportName in whole ? whole[exportName] : inner[exportName];
  if (handler === undefined) {
    const all = new Set([...Object.keys(whole), ...Object.keys(inner)]);
    const names = [...all].filter((key) => key !== "module.exports").sort();
    const there = names.length > 0 ? `it exports: ${listed(names)}` : "it exports nothing";
    throw new HandlerNotFound(`handler "${name}": ${file} has no export "${exportName}"; ${there}`);
  }
  return handler;
}

function callable(handler, name) {
  if (typeof handler !== "function") {
    throw new HandlerNotCallable(`handler "${name}" is of type ${typeof handler}, which cannot be called`);
  }
  return handler;
}

function listed(names) {
  const more = names.length - SHOWN_NAMES_MAX;
  return names.slice(0, SHOWN_NAMES_MAX).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

module.exports = { loadHandler, loadHelperClass };
