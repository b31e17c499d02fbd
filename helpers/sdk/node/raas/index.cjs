// What function and helper code gets by `require("raas")` or `import … from "raas"`.
// Owns the public names and nothing else. Works outside the platform too: `state` is in memory and nothing is bound.
"use strict";

const { Helper } = require("./helper.cjs");
const { HelperError, StateError, WrongArguments } = require("./helper_errors.cjs");

module.exports = { Helper, HelperError, StateError, WrongArguments };
