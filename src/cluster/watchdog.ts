// Ends a process whose event loop is blocked while it holds slots that others are about to get. Nobody else could: a
// blocked process cannot close its sockets.

import { url as inspectorUrl } from "node:inspector";
import { Worker } from "node:worker_threads";
import type { Milliseconds } from "../types.js";

/** Runs in a thread of its own. `times[0]`: until when the process may hold slots, on the monotonic clock of the system. */
const SOURCE = `
const { workerData } = require("node:worker_threads");
const { writeSync } = require("node:fs");
const times = new Float64Array(workerData, 0, 1);
const words = new Int32Array(workerData, 8, 2);
const HELD = 0, BELL = 1;
for (;;) {
  const left = times[0] - Number(process.hrtime.bigint()) / 1e6;
  if (left <= 0 && words[HELD] > 0) {
    writeSync(2, "outbound-limiter: the event loop is blocked, and connections of " + words[HELD] + " leases are open whose slots others get now: the process is ended\\n");
    process.kill(process.pid, "SIGKILL");
  }
  // A process without leases, or one that was given up already, is looked at again when its time is set anew.
  Atomics.wait(words, BELL, 0, Math.max(1, Math.min(left > 0 ? left : 100, 60_000)));
}`;

export class Watchdog implements Disposable {
  readonly #times: Float64Array;
  readonly #words: Int32Array;
  readonly #worker: Worker;

  constructor() {
    const shared = new SharedArrayBuffer(16);
    this.#times = new Float64Array(shared, 0, 1);
    this.#words = new Int32Array(shared, 8, 2);
    this.#times[0] = Number.POSITIVE_INFINITY;
    this.#worker = new Worker(SOURCE, {
      eval: true,
      workerData: shared,
      env: {},
      execArgv: [],
      stdin: false,
      resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 2, stackSizeMb: 1 },
    });
    this.#worker.unref();
    // Without the thread the process is where it would be with the watchdog switched off.
    this.#worker.on("error", () => {});
  }

  /** How many leases the process holds that others may get. */
  held(leases: number): void {
    this.#words[0] = leases;
  }

  /** The process may hold its slots for so long, from now. A debugger stops the loop too, and is left alone. */
  allow(time: Milliseconds): void {
    const isNew = this.#times[0] === Number.POSITIVE_INFINITY;
    const end = inspectorUrl() === undefined ? Number(process.hrtime.bigint()) / 1e6 + time : Number.POSITIVE_INFINITY;
    this.#times[0] = end;
    // Times only move on: but for the first one, the thread wakes up early enough by itself.
    if (isNew) Atomics.notify(this.#words, 1);
  }

  [Symbol.dispose](): void {
    this.held(0);
    void this.#worker.terminate();
  }
}
