// The loops that are timed around a library. Imported anew for each: V8 keeps what it learned about a function with the
// function, and in one loop for all libraries it would inline none of them, as no program has it.

import type { Variant } from "./measure.js";
import type { Held, Peer } from "./peers.js";
import type { Tuple } from "./workloads.js";

/** Takes and releases at once, if the library can. */
function atOnce({ name, tryAcquire }: Peer, stream: readonly Tuple[]): Variant | undefined {
  if (tryAcquire === undefined) return undefined;
  const mask = stream.length - 1;
  let at = 0;
  return {
    name,
    run(ops) {
      for (let i = 0; i < ops; i++) (tryAcquire(stream[at++ & mask] as Tuple) as Held).release();
    },
  };
}

/** Awaits and releases, one after the other. */
function awaited({ name, acquire, tryLater }: Peer, stream: readonly Tuple[]): Variant | undefined {
  const take = acquire ?? tryLater;
  if (take === undefined) return undefined;
  const mask = stream.length - 1;
  let at = 0;
  return {
    name,
    async run(ops) {
      for (let i = 0; i < ops; i++) ((await take(stream[at++ & mask] as Tuple)) as Held).release();
    },
  };
}

export const loops: { readonly try: typeof atOnce; readonly await: typeof awaited } = { try: atOnce, await: awaited };
