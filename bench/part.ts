// One part of the bench in a process of its own: what one did to the compiler and the heap must not reach the next.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Outcome } from "./measure.js";
import { PARTS, type Part } from "./parts.js";
import type { Library } from "./workloads.js";

/** What to measure. */
export interface Order {
  /** Of a part. */
  readonly name: string;
  readonly quick: boolean;
  /** URL of the library's module: of the built package, or of another build to compare with. */
  readonly library: string;
}

export function measureApart(order: Order): Promise<Outcome> {
  const child = fork(fileURLToPath(import.meta.url), [], {
    execArgv: ["--import", "tsx", "--max-old-space-size=6000"],
    serialization: "advanced",
  });
  return new Promise((resolve, reject) => {
    child.once("message", (outcome) => resolve(outcome as Outcome));
    child.once("exit", (status, signal) => reject(new Error(`Part ${order.name} failed: ${String(signal ?? status)}`)));
    child.send(order);
  });
}

async function measure({ name, quick, library }: Order): Promise<Outcome> {
  return (PARTS[name] as Part).run({ library: (await import(library)) as Library, url: library, quick });
}

// The other end of the fork.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.once("message", (order) => {
    void measure(order as Order).then((outcome) => process.send?.(outcome, () => process.exit()));
  });
}
