// The life of the process in order: take the socket, say BOOTED, wait for INIT, load the handler, serve.
// Owns that order and every way in which the process ends: 0 after STOP or when the platform is gone, 1 when the contract
// was broken, INIT failed, or the function let an error escape.
"use strict";

const { calls } = require("./calls.cjs");
const { Connection } = require("./connection.cjs");
const { describeFunction } = require("./context.cjs");
const { guardDescriptor } = require("./descriptor_guard.cjs");
const { errorText } = require("./errors.cjs");
const frames = require("./frames.cjs");
const { loadHandler, loadHelperClass } = require("./handler.cjs");
const { isCancellation } = require("./helper_errors.cjs");
const { INSTANCE, Logs } = require("./logs.cjs");
const { provideForRequire } = require("./public_name.cjs");
const { Server } = require("./server.cjs");
const { warmUp } = require("./warm_up.cjs");

const STACK_FRAMES = 30;

// Kept from before `process.exit` is replaced, a check gives code another clock, and user code can touch them.
const { bigint: nowNs } = process.hrtime;
const exit = process.exit.bind(process);
const exitAtOnce = process.reallyExit.bind(process);

/** The function called process.exit. */
class ProcessExit extends Error {}
ProcessExit.prototype.name = "ProcessExit";

class RuntimeProcess {
  #connection = new Connection();
  #logs = new Logs(this.#connection);
  #reader = new frames.FrameReader((...frame) => this.#onFrame(...frame));
  #server = null;
  #helper = null; // the HelperService, in a helper's process
  #stopping = false;
  #initStarted = false;
  #early = []; // frames that came between INIT and READY
  #codeDir = "";

  async start() {
    await warmUp();
    this.#logs.install();
    guardDescriptor();
    provideForRequire();
    calls.connect(this.#connection);
    process.exit = refuseExit;
    process.on("uncaughtException", (error) => this.#die(error, "uncaughtException"));
    process.on("unhandledRejection", (reason) => this.#die(reason, "unhandledRejection"));
    Error.stackTraceLimit = STACK_FRAMES;
    this.#connection.open(
      (buffer, size) => this.#onBytes(buffer, size),
      () => exitAtOnce(0),
    );
    const version = process.versions.node;
    this.#connection.sendText(frames.BOOTED, 0, JSON.stringify({ runtime: "node", version }));
  }

  #onBytes(buffer, size) {
    try {
      this.#reader.feed(buffer, size);
    } catch (error) {
      if (!(error instanceof frames.ProtocolError)) {
        throw error;
      }
      process.stderr.write(`the connection to the platform is broken: ${error.message}\n`);
      exitAtOnce(1);
    }
  }

  #onFrame(kind, requestId, buffer, start, end) {
    if (kind === frames.INVOKE && this.#server !== null) {
      this.#server.invoke(requestId, buffer, start, end);
    } else if (kind === frames.PING) {
      this.#connection.sendBytes(frames.PONG, requestId, Buffer.alloc(0));
    } else if (kind === frames.INIT && !this.#initStarted) {
      this.#initStarted = true;
      this.#initialise(buffer.toString("utf8", start, end));
    } else if (kind === frames.ANSWER && this.#initStarted) {
      calls.answer(requestId, buffer, start, end);
    } else if (this.#server === null) {
      this.#onEarlyFrame(kind, requestId, buffer, start, end);
    } else if (kind === frames.CANCEL) {
      this.#server.cancel(requestId);
    } else if (kind === frames.STOP) {
      this.#server.whenQuiet(() => this.#stop());
    } else {
      throw new frames.ProtocolError(`unexpected frame kind 0x${kind.toString(16)}`);
    }
  }

  #onEarlyFrame(kind, requestId, buffer, start, end) {
    const isKnown = kind === frames.CANCEL || kind === frames.STOP || (kind === frames.INVOKE && this.#initStarted);
    if (!isKnown) {
      throw new frames.ProtocolError(`frame kind 0x${kind.toString(16)} before READY`);
    }
    if (this.#initStarted) {
      const payload = Buffer.from(buffer.subarray(start, end));
      this.#early.push([kind, requestId, payload, 0, payload.length]);
    } else if (kind === frames.STOP) {
      exit(0);
    }
  }

  async #initialise(payload) {
    const startedNs = nowNs();
    try {
      const settings = JSON.parse(payload);
      this.#codeDir = settings.code_dir;
      describeFunction(settings);
      if (settings.check) {
        // What most processes never need is only loaded here.
        require("./check.cjs").prepareCheck(settings);
      }
      const handler = settings.helper === undefined ? await loadHandler(settings) : await this.#startHelper(settings);
      this.#finishLines();
      const initUs = Number((nowNs() - startedNs) / 1000n);
      this.#connection.sendText(frames.READY, 0, JSON.stringify({ init_us: initUs, ...this.#helper?.description }));
      this.#server = this.#serverFor(settings, handler);
    } catch (error) {
      this.#failInit(error);
    }
    for (const frame of this.#early.splice(0)) {
      this.#onFrame(...frame);
    }
  }

  /** With a recorder of what is read of events, where INIT asks for that. */
  #serverFor(settings, handler) {
    if (!settings.check || !require("./check.cjs").isRecorded(settings)) {
      return new Server(this.#connection, this.#logs, handler, this.#codeDir);
    }
    const { Recorder } = require("./reads.cjs");
    const recorder = new Recorder(this.#connection, handler);
    return new Server(recorder, this.#logs, recorder.handle, this.#codeDir);
  }

  /** Makes the helper's object and starts it; returns what serves its events. */
  async #startHelper(settings) {
    // Not needed for functions, which are most of what a pool's process becomes.
    const { HelperService } = require("./helper_service.cjs");
    const service = new HelperService(settings.handler, await loadHelperClass(settings), settings.helper);
    await service.start();
    this.#helper = service;
    return service.handle;
  }

  /** After the last answer: a helper's `stop`, once, then the end. */
  async #stop() {
    if (this.#stopping) {
      return;
    }
    this.#stopping = true;
    if (this.#helper !== null) {
      try {
        await this.#helper.stop();
      } catch (error) {
        this.#logError("stop", error);
      }
      this.#finishLines();
      this.#connection.flush();
    }
    exit(0);
  }

  #failInit(error) {
    this.#finishLines();
    this.#connection.sendText(frames.INIT_FAILED, 0, errorText(error, this.#codeDir));
    this.#connection.flush();
    exitAtOnce(1);
  }

  #finishLines() {
    if (INSTANCE.lines !== null) {
      this.#logs.finish(INSTANCE);
    }
  }

  /** An error that nobody caught: the state of the function is unknown, so its requests fail and the process ends. */
  #die(error, event) {
    if (process.listenerCount(event) > 1) {
      // The function listens for these itself, which is how Node lets a program go on.
      return;
    }
    if (event === "unhandledRejection" && isCancellation(error)) {
      // A call that its request did not wait for is no reason to end the others.
      return;
    }
    if (this.#server === null && this.#initStarted) {
      this.#failInit(error);
    }
    this.#logError(event, error);
    this.#finishLines();
    this.#server?.failAll(error);
    this.#connection.flush();
    exitAtOnce(1);
  }

  #logError(what, error) {
    const { type, message, stack } = JSON.parse(errorText(error, this.#codeDir));
    process.stderr.write(`${what}: ${stack === "" ? `${type}: ${message}` : stack}\n`);
  }
}

function refuseExit(code = process.exitCode ?? 0) {
  throw new ProcessExit(`the function called process.exit(${code}); return from the handler, or throw, instead`);
}

function main() {
  new RuntimeProcess().start();
}

module.exports = { main };
