// The libraries a sender would use today, each composed over the same five limits, and the proof that they grant the same.

import { setTimeout as sleep } from "node:timers/promises";
import { Semaphore } from "async-mutex";
import { Sema } from "async-sema";
import Bottleneck from "bottleneck";
import { bulkhead } from "cockatiel";
import { createPool, type Pool } from "generic-pool";
import pLimit from "p-limit";
import PQueue from "p-queue";
import { RateLimiterMemory } from "rate-limiter-flexible";
import { turn } from "./measure.js";
import { NaiveTable, type Release } from "./naive.js";
import {
  type Caps,
  capOf,
  type Kind,
  type Library,
  limiterFor,
  limitsOf,
  seeded,
  type Tuple,
  Tuples,
} from "./workloads.js";

/** All five slots. The shape of a lease, so that ours is timed as it is. */
export interface Held {
  release(): void;
}

/**
 * Five slots of a library. A class, because tsx gives every function in an object its name at run time, which costs more
 * than taking the slots.
 */
class Slots<S> implements Held {
  readonly #slots: readonly S[];
  readonly #giveBack: (slot: S) => void;

  constructor(slots: readonly S[], giveBack: (slot: S) => void) {
    this.#slots = slots;
    this.#giveBack = giveBack;
  }

  release(): void {
    for (const slot of this.#slots) this.#giveBack(slot);
  }
}

/** One way to hold all five limits. None of the libraries takes several at once, so each is asked five times. */
export interface Peer {
  readonly name: string;
  /** Takes all slots now or none. */
  readonly tryAcquire?: (tuple: Tuple) => Held | undefined;
  /** Waits for one limit after the other; holds the earlier ones meanwhile, as composing does. */
  readonly acquire?: (tuple: Tuple) => Promise<Held>;
  /** Answers later, but does not wait. */
  readonly tryLater?: (tuple: Tuple) => Promise<Held | undefined>;
  /** Milliseconds until a slot has arrived, for one that works with timers. */
  readonly lag?: number;
}

/** The five semaphores of a tuple. */
type LookUp<S> = (tuple: Tuple) => readonly S[];

/** One semaphore a key, made when first asked for. Never evicted: a leak in a real sender, but in favour of the peers. */
function perKey<S>(caps: Caps, make: (cap: number) => S): LookUp<S> {
  const made = new Map<string, S>();
  const limit = (key: string, kind: Kind): S => {
    let one = made.get(key);
    if (one === undefined) {
      one = make(capOf(caps, kind, key));
      made.set(key, one);
    }
    return one;
  };
  return (tuple) => limitsOf(tuple, limit);
}

/** For a sender that keeps one object for each target, for ever: no key is built again. */
function perTuple<S>(lookUp: LookUp<S>): LookUp<S> {
  const known = new Map<Tuple, readonly S[]>();
  return (tuple) => {
    let all = known.get(tuple);
    if (all === undefined) {
      all = lookUp(tuple);
      known.set(tuple, all);
    }
    return all;
  };
}

function asyncSema(name: string, semas: LookUp<Sema>): Peer {
  const giveBack = (sema: Sema): void => sema.release();
  return {
    name,
    tryAcquire(tuple) {
      const all = semas(tuple);
      for (let i = 0; i < all.length; i++) {
        if (all[i]?.tryAcquire() !== undefined) continue;
        for (const sema of all.slice(0, i)) sema.release();
        return undefined;
      }
      return new Slots(all, giveBack);
    },
    async acquire(tuple) {
      const all = semas(tuple);
      for (const sema of all) await sema.acquire();
      return new Slots(all, giveBack);
    },
  };
}

function asyncMutex(caps: Caps): Peer {
  const semaphores = perKey(caps, (cap) => new Semaphore(cap));
  const giveBack = (release: Release): void => release();
  return {
    name: "async-mutex",
    async acquire(tuple) {
      const releases: Release[] = [];
      for (const semaphore of semaphores(tuple)) releases.push((await semaphore.acquire())[1]);
      return new Slots(releases, giveBack);
    },
  };
}

function genericPool(caps: Caps): Peer {
  const factory = { create: async () => ({}), destroy: async () => {} };
  const pools = perKey(caps, (max) => createPool<object>(factory, { max }));
  const giveBack = ({ pool, resource }: { pool: Pool<object>; resource: object }): void => void pool.release(resource);
  return {
    name: "generic-pool",
    async acquire(tuple) {
      const slots: { pool: Pool<object>; resource: object }[] = [];
      for (const pool of pools(tuple)) slots.push({ pool, resource: await pool.acquire() });
      return new Slots(slots, giveBack);
    },
  };
}

type RunIn = (work: () => Promise<unknown>) => Promise<unknown>;

/** For libraries that run a function under a limit: five of them, one inside the other. */
function nested(name: string, caps: Caps, make: (cap: number) => RunIn): Peer {
  const runs = perKey(caps, make);
  return { name, acquire: (tuple) => new Promise((granted) => void enter(runs(tuple), 0, granted)) };
}

function enter(runs: readonly RunIn[], depth: number, granted: (held: Held) => void): Promise<unknown> {
  const run = runs[depth];
  if (run === undefined) return new Promise<void>((release) => granted({ release }));
  return run(() => enter(runs, depth + 1, granted));
}

/** Counts points; made to count without end they are slots. It has no line to wait in. */
function rateLimiterFlexible(caps: Caps): Peer {
  const limiters = perKey(caps, (points) => new RateLimiterMemory({ points, duration: 0 }));
  const key = "slots";
  const giveBack = (limiter: RateLimiterMemory): void => void limiter.reward(key);
  return {
    name: "rate-limiter-flexible",
    async tryLater(tuple) {
      const all = limiters(tuple);
      for (let i = 0; i < all.length; i++) {
        try {
          await all[i]?.consume(key);
        } catch {
          // What it refused it has counted all the same.
          new Slots(all.slice(0, i + 1), giveBack).release();
          return undefined;
        }
      }
      return new Slots(all, giveBack);
    },
  };
}

export function ours(library: Library, tuples: readonly Tuple[], caps: Caps): Peer {
  const limiter = limiterFor(library, tuples, caps);
  return {
    name: "outbound-limiter",
    tryAcquire: (tuple) => limiter.tryAcquire(tuple),
    acquire: (tuple) => limiter.acquire(tuple),
  };
}

const sema = (cap: number): Sema => new Sema(cap);

/** One after the other, so that the memory of one is free for the next. */
export const PEERS: readonly ((caps: Caps) => Peer)[] = [
  (caps) => asyncSema("async-sema", perKey(caps, sema)),
  (caps) => asyncSema("async-sema, no keys", perTuple(perKey(caps, sema))),
  (caps) =>
    nested("cockatiel", caps, (cap) => {
      const policy = bulkhead(cap, Number.MAX_SAFE_INTEGER);
      return (work) => policy.execute(work);
    }),
  (caps) => nested("p-limit", caps, pLimit),
  genericPool,
  rateLimiterFlexible,
  (caps) =>
    nested("p-queue", caps, (concurrency) => {
      const queue = new PQueue({ concurrency });
      return (work) => queue.add(work);
    }),
  asyncMutex,
  (caps) => ({
    ...nested("bottleneck", caps, (maxConcurrent) => {
      const limiter = new Bottleneck({ maxConcurrent });
      return (work) => limiter.schedule(work);
    }),
    lag: 10,
  }),
];

/** Few tuples, so that they meet often, and limits each of which is the only one that refuses, now and then. */
export const TIGHT: Caps = { server: 8, binding: 4, pair: 2, domain: 4, hot: 4, host: 2 };

export function contested(): readonly Tuple[] {
  const tuples = new Tuples();
  for (let i = 0; i < 36; i++) tuples.of(`mta-${i % 3}`, `domain-${(i >> 1) % 4}.example`, `mx${i % 5}.example`);
  return tuples.all;
}

/** What a proof saw. */
export interface Proof {
  /** Requests that could go at once. */
  atOnce: number;
  /** Requests that could not. */
  refused: number;
  /** How often each of the five limits was the only one to refuse: a limit that is missing would have been found. */
  readonly alone: Record<Kind, number>;
}

/**
 * Plays seeded requests and releases, and compares with the naive table: whoever fits is granted, and whoever does not
 * is granted exactly when it fits. Nobody else asks while one waits, or composing would grant less than all at once.
 *
 * @throws at the first difference
 */
export async function prove(peer: Peer, steps: number): Promise<Proof> {
  const random = seeded(5);
  const table = new NaiveTable(TIGHT);
  const tuples = contested();
  const holders: { readonly tuple: Tuple; readonly held: Held }[] = [];
  const proof: Proof = { atOnce: 0, refused: 0, alone: { host: 0, pair: 0, domain: 0, binding: 0, server: 0 } };
  const settle = (): Promise<void> => (peer.lag === undefined ? turns(8) : sleep(peer.lag));
  const fits = (tuple: Tuple): boolean => table.fullFor(tuple).length === 0;

  const endOne = async (): Promise<void> => {
    const [one] = holders.splice(Math.floor(random() * holders.length), 1);
    if (one === undefined) return;
    table.drop(one.tuple);
    one.held.release();
    await settle();
  };
  const check = (tuple: Tuple, held: Held | undefined): void => {
    if ((held !== undefined) !== fits(tuple)) {
      const grants = held === undefined ? "refuses" : "grants";
      throw new Error(`${peer.name} ${grants} ${JSON.stringify(tuple)}, and the naive table does not`);
    }
    const [full, ...others] = table.fullFor(tuple);
    if (full !== undefined && others.length === 0) proof.alone[full]++;
    if (held === undefined) return;
    table.take(tuple);
    holders.push({ tuple, held });
  };
  const tryOnce = async (tuple: Tuple): Promise<void> =>
    check(tuple, peer.tryAcquire?.(tuple) ?? (await peer.tryLater?.(tuple)));
  const waitFor = async (tuple: Tuple, acquire: (tuple: Tuple) => Promise<Held>): Promise<void> => {
    const granted: Held[] = [];
    void acquire(tuple).then((held) => granted.push(held));
    for (;;) {
      // A refusal is believed after one look; a grant may take its time.
      await settle();
      for (let looks = 0; looks < 100 && granted.length === 0 && fits(tuple); looks++) await settle();
      check(tuple, granted[0]);
      if (granted.length > 0) return;
      await endOne();
    }
  };

  for (let step = 0; step < steps; step++) {
    if (random() < 0.25) await endOne();
    const tuple = tuples[Math.floor(random() * tuples.length)] as Tuple;
    if (fits(tuple)) proof.atOnce++;
    else proof.refused++;
    if (peer.acquire !== undefined && (peer.tryAcquire === undefined || random() < 0.5))
      await waitFor(tuple, peer.acquire);
    else await tryOnce(tuple);
  }
  while (holders.length > 0) await endOne();
  return proof;
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}
