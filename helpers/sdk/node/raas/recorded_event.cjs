// An event that notices what is read of it: proxies of its objects and lists.
// Owns what counts as looking at a part. Every value stays in the object that JSON.parse made, so what goes past the proxies
// is not noticed, but never sees another value. To change the event is not to look at it.
"use strict";

const { syncBuiltinESMExports } = require("node:module");
const { inspect } = require("node:util");
const v8 = require("node:v8");

const INDEX = /^(?:0|[1-9]\d*)$/;

/** The proxies of all events, to what they stand for: { raw, recording }. */
const parts = new WeakMap();

/** The objects and lists of one event, and the traps of their proxies. */
class Recording {
  #reads;
  #pointers = new Map(); // by object
  #proxies = new Map(); // by object

  constructor(event, reads) {
    this.#reads = reads;
    // Without recursion: an event may be nested deeper than the stack.
    const pending = [[event, ""]];
    while (pending.length > 0) {
      const [raw, pointer] = pending.pop();
      this.#pointers.set(raw, pointer);
      this.#noticePrinting(raw);
      for (const [key, value] of Object.entries(raw)) {
        if (typeof value === "object" && value !== null) {
          pending.push([value, `${pointer}/${escapedName(key)}`]);
        }
      }
    }
  }

  /** `console.log` and the like look past proxies, but ask the object how it wants to be shown. */
  #noticePrinting(raw) {
    const show = () => {
      this.escape(raw);
      return plain(raw, this);
    };
    Object.defineProperty(raw, inspect.custom, { value: show, writable: true, configurable: true });
  }

  isPart(value) {
    return this.#pointers.has(value);
  }

  /** All of the part was looked at. */
  escape(raw) {
    this.#reads.lookAt(this.#pointers.get(raw));
  }

  /** What code gets for a value of the event. */
  given(value) {
    if (!this.isPart(value)) {
      return value;
    }
    let proxy = this.#proxies.get(value);
    if (proxy === undefined) {
      proxy = new Proxy(value, this);
      this.#proxies.set(value, proxy);
      parts.set(proxy, { raw: value, recording: this });
    }
    return proxy;
  }

  handOut(raw) {
    this.#reads.handOut(this.#pointers.get(raw));
  }

  /** One name was asked for. */
  #look(raw, key) {
    if (typeof key === "symbol") {
      return;
    }
    const value = Object.getOwnPropertyDescriptor(raw, key)?.value;
    if (this.isPart(value)) {
      this.handOut(value);
    } else if (parts.has(value)) {
      // Put here by the handler, from elsewhere in the event.
      const { raw: part, recording } = parts.get(value);
      recording.handOut(part);
    } else if (!Array.isArray(raw)) {
      // Also `then` and `toJSON`, for which the language itself asks: code may look for them as well, and nobody can tell which it was.
      this.#reads.lookAt(`${this.#pointers.get(raw)}/${escapedName(key)}`);
    } else if (INDEX.test(key)) {
      this.#reads.lookAt(`${this.#pointers.get(raw)}/${key}`);
    } else if (key === "length") {
      // By which methods that go over the items, and those that move them, begin.
      this.escape(raw);
    }
  }

  // The traps.

  get(raw, key, receiver) {
    this.#look(raw, key);
    return key === inspect.custom ? undefined : this.given(Reflect.get(raw, key, receiver));
  }

  has(raw, key) {
    this.#look(raw, key);
    return key !== inspect.custom && Reflect.has(raw, key);
  }

  getOwnPropertyDescriptor(raw, key) {
    this.#look(raw, key);
    const found = key === inspect.custom ? undefined : Reflect.getOwnPropertyDescriptor(raw, key);
    return found !== undefined && "value" in found ? { ...found, value: this.given(found.value) } : found;
  }

  ownKeys(raw) {
    this.escape(raw);
    return Reflect.ownKeys(raw).filter((key) => key !== inspect.custom);
  }

  set(raw, key, value, receiver) {
    // With the proxy as receiver this would ask the proxy for what is there.
    return Reflect.set(raw, key, value, receiver === this.#proxies.get(raw) ? raw : receiver);
  }

  defineProperty(raw, key, descriptor) {
    const found = Reflect.getOwnPropertyDescriptor(raw, key);
    const becomes = { ...found, ...descriptor };
    if (found !== undefined && !("value" in descriptor) && !becomes.configurable && becomes.writable === false) {
      // A proxy may not hide what is frozen: from here on that is what code has seen.
      return Reflect.defineProperty(raw, key, { ...descriptor, value: this.given(found.value) });
    }
    return Reflect.defineProperty(raw, key, descriptor);
  }

  preventExtensions(raw) {
    // What is not extensible may not hide a property.
    delete raw[inspect.custom];
    this.escape(raw);
    return Reflect.preventExtensions(raw);
  }
}

/** A name as a part of a pointer. */
function escapedName(name) {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

/** An event of JSON, as one that tells `reads` what is looked at. */
function recorded(event, reads) {
  return new Recording(event, reads).given(event);
}

/** A copy of a part without proxies, down to the first object that is no part of an event. */
function plain(part, its) {
  const made = new Map();
  const pending = [];
  const copyOf = (value, recording) => {
    const { raw, recording: own } = parts.get(value) ?? { raw: value, recording };
    if (!own.isPart(raw)) {
      return value;
    }
    if (!made.has(raw)) {
      made.set(raw, Array.isArray(raw) ? new Array(raw.length) : {});
      pending.push([raw, own]);
    }
    return made.get(raw);
  };
  const copied = copyOf(part, its);
  while (pending.length > 0) {
    const [raw, recording] = pending.pop();
    for (const [key, value] of Object.entries(raw)) {
      setOwn(made.get(raw), key, copyOf(value, recording));
    }
  }
  return copied;
}

/** Also where the name is `__proto__`. */
function setOwn(object, key, value) {
  Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
}

/** A copy with plain objects in place of the proxies that it is or holds, or null where there are none. */
function withoutProxies(value) {
  const made = new Map();
  let isFound = false;
  const kept = (original, copy) => {
    made.set(original, copy);
    return copy;
  };
  const copyOf = (original) => {
    if (typeof original !== "object" || original === null) {
      return original;
    }
    if (made.has(original)) {
      return made.get(original);
    }
    const part = parts.get(original);
    if (part !== undefined) {
      isFound = true;
      part.recording.escape(part.raw);
      return kept(original, plain(part.raw, part.recording));
    }
    if (original instanceof Map) {
      const copy = kept(original, new Map());
      original.forEach((item, key) => copy.set(copyOf(key), copyOf(item)));
      return copy;
    }
    if (original instanceof Set) {
      const copy = kept(original, new Set());
      original.forEach((item) => copy.add(copyOf(item)));
      return copy;
    }
    const isArray = Array.isArray(original);
    if (!isArray && ![Object.prototype, null].includes(Object.getPrototypeOf(original))) {
      return original;
    }
    const copy = kept(original, isArray ? new Array(original.length) : {});
    Object.entries(original).forEach(([key, item]) => setOwn(copy, key, copyOf(item)));
    return copy;
  };
  const copied = copyOf(value);
  return isFound ? copied : null;
}

/** Makes what copies values natively, and refuses proxies, copy what they stand for. Once, before user code is loaded. */
function letCopiesThrough() {
  for (const [owner, name] of [[globalThis, "structuredClone"], [v8, "serialize"], [MessagePort.prototype, "postMessage"]]) {
    const original = owner[name];
    const changed = {
      [name](value, ...more) {
        try {
          return original.call(this, value, ...more);
        } catch (error) {
          const copy = withoutProxies(value);
          if (copy === null) {
            throw error;
          }
          return original.call(this, copy, ...more);
        }
      },
    };
    Object.defineProperty(owner, name, { ...Object.getOwnPropertyDescriptor(owner, name), value: changed[name] });
  }
  // For `import { serialize } from "node:v8"`.
  syncBuiltinESMExports();
}

module.exports = { letCopiesThrough, recorded };
