// A handler's value (or another value that leaves the process) as JSON text, or a clear reason why it cannot be one.
// Owns strictness: JSON.stringify is used for its speed, and what it hides (NaN becomes null) or lets pass (lone surrogates)
// is looked for only in texts that can contain it.
"use strict";

const RESULT_MAX_BYTES = 6 << 20;
const UTF8_BYTES_PER_UNIT = 3;

/** The handler returned what JSON cannot hold. */
class ResultNotSerializable extends Error {}
ResultNotSerializable.prototype.name = "ResultNotSerializable";

/** The handler returned more than an answer may carry. */
class ResponseTooLarge extends Error {}
ResponseTooLarge.prototype.name = "ResponseTooLarge";

const LONE_SURROGATE = /(?<!\\)(?:\\\\)*\\ud[89a-f]/;

function resultText(value) {
  if (value === undefined) {
    return "null";
  }
  const text = strictText(value, "the result", notSerializable);
  if (text.length * UTF8_BYTES_PER_UNIT > RESULT_MAX_BYTES) {
    const size = Buffer.byteLength(text, "utf8");
    if (size > RESULT_MAX_BYTES) {
      throw new ResponseTooLarge(`the result is ${size} bytes of JSON, over the limit of ${RESULT_MAX_BYTES}`);
    }
  }
  return text;
}

function notSerializable(message) {
  return new ResultNotSerializable(message);
}

/** The JSON text of a value that is called `what`; throws `refusal(message)` where it has none that says the same. */
function strictText(value, what, refusal) {
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    throw refusal(`${what} is of type ${value.constructor.name}, which JSON cannot hold; encode it as text, such as base64`);
  }
  let text;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw refusal(`${what} cannot be written as JSON: ${firstLines(error)}`);
  }
  if (text === undefined) {
    throw refusal(`${what} is a ${typeof value}, which JSON cannot hold`);
  }
  if (text.includes("null")) {
    refuseHiddenNumbers(value, what, refusal);
  }
  if (text.includes("\\ud") && LONE_SURROGATE.test(text)) {
    throw refusal(`${what} has text with a lone surrogate, which UTF-8 cannot hold`);
  }
  return text;
}

function refuseHiddenNumbers(value, what, refusal) {
  JSON.stringify(value, function (key, item) {
    const number = item instanceof Number ? item.valueOf() : item;
    if (typeof number === "number" && !Number.isFinite(number)) {
      const place = key === "" ? what : `${what}'s ${Array.isArray(this) ? `item ${key}` : `"${key}"`}`;
      throw refusal(`${place} is ${number}, which JSON cannot hold`);
    }
    return item;
  });
}

/** V8 explains circles over several lines, of which the first names the trouble. */
function firstLines(error) {
  try {
    return String(error.message).split("\n").slice(0, 4).join(" ").replace(/\s+/g, " ");
  } catch {
    return "its own toJSON failed";
  }
}

module.exports = { resultText, strictText };
