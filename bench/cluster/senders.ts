// The ways to hold four limits over processes: ours, and libraries that are composed over the same Redis.

import Bottleneck from "bottleneck";
import { Redis } from "ioredis";
import { MultiSemaphore, Semaphore } from "redis-semaphore";
import type { redisCluster } from "../../src/redis.js";
import type { Library } from "../workloads.js";
import { type Caps, limitsOf, policyOf, type Stream, type To } from "./limits.js";

/** All four slots. The shape of a lease, so that ours is timed as it is. */
export interface Held {
  /** Resolves when they are back, where that takes time. */
  release(): void | Promise<void>;
  /** Others may get the slots: the connection has to be closed. */
  readonly lost?: AbortSignal;
}

export interface Sender {
  acquire(target: To): Promise<Held>;
  close(): Promise<void>;
}

/** How a sender is made. */
export interface Setup {
  readonly kind: Kind;
  /** URLs: of the server, and of the module of our library. */
  readonly redis: string;
  readonly library: string;
  /** Of all keys. Nobody has used it before. */
  readonly prefix: string;
  readonly stream: Stream;
  readonly caps: Caps;
  /** Of ours. */
  readonly options?: Omit<NonNullable<Parameters<typeof redisCluster>[1]>, "prefix">;
  /** It is subscribed, but no message arrives. */
  readonly isDeaf?: boolean;
}

/** A client whose subscribers lose every message. */
class DeafRedis extends Redis {
  override duplicate(): Redis {
    const subscriber = super.duplicate();
    const emit = subscriber.emit.bind(subscriber);
    subscriber.emit = (event, ...args) => event !== "message" && emit(event, ...args);
    return subscriber;
  }
}

/** Connected, and unmoved when the server goes away. */
async function connected(url: string, isDeaf = false): Promise<Redis> {
  const client = new (isDeaf ? DeafRedis : Redis)(url);
  client.on("error", () => {});
  await client.ping();
  return client;
}

async function ours(setup: Setup): Promise<Sender> {
  const { library, prefix, stream, caps, options } = setup;
  const { createLimiter, definePolicy } = (await import(library)) as Library;
  const entry = (await import(redisEntry(library))) as { redisCluster: typeof redisCluster };
  const client = await connected(setup.redis, setup.isDeaf);
  const cluster = entry.redisCluster(client, { prefix, isNew: true, ...options });
  const limiter = createLimiter(definePolicy(policyOf(stream, caps)), { cluster });
  return {
    acquire: (target) => limiter.acquire(target),
    close: async () => {
      await limiter.close();
      client.disconnect();
    },
  };
}

/** The module of the cluster's limits beside that of the library. */
export const redisEntry = (library: string): string => library.replace(/index(\.\w+)$/, "redis$1");

/** Four slots that are waited for one after the other. */
class Slots implements Held {
  readonly #slots: readonly Semaphore[];

  constructor(slots: readonly Semaphore[]) {
    this.#slots = slots;
  }

  async release(): Promise<void> {
    await Promise.all(this.#slots.map((slot) => slot.release()));
  }
}

/** An object for each slot that is held, as its users make them. */
async function semaphores(setup: Setup, make: (client: Redis, key: string, cap: number) => Semaphore): Promise<Sender> {
  const client = await connected(setup.redis);
  return {
    async acquire(target) {
      const slots = limitsOf(target, setup.caps, (key, cap) => make(client, `${setup.prefix} ${key}`, cap));
      for (const slot of slots) await slot.acquire();
      return new Slots(slots);
    },
    close: async () => client.disconnect(),
  };
}

/** Everybody may wait as long as it takes. */
const PATIENT = { acquireTimeout: 600_000 };

/** A function that runs until its slots are to be given back. */
class Running implements Held {
  readonly #end: () => void;
  readonly #done: () => Promise<void>;

  constructor(end: () => void, done: () => Promise<void>) {
    this.#end = end;
    this.#done = done;
  }

  release(): Promise<void> {
    this.#end();
    return this.#done();
  }
}

/** Four limiters that run a function, one inside the other, which is what its `chain` does. Kept for ever. */
async function bottlenecks(setup: Setup): Promise<Sender> {
  const client = await connected(setup.redis);
  const connection = new Bottleneck.IORedisConnection({ client, Redis });
  const made = new Map<string, Bottleneck>();
  const limiterOf = (key: string, maxConcurrent: number): Bottleneck => {
    const id = `${setup.prefix} ${key}`;
    const limiter = made.get(id) ?? new Bottleneck({ id, datastore: "ioredis", connection, maxConcurrent });
    made.set(id, limiter);
    return limiter;
  };
  return {
    acquire(target) {
      const limiters = limitsOf(target, setup.caps, limiterOf);
      return new Promise((granted) => {
        const done: Promise<void> = limiters.reduceRight<() => Promise<void>>(
          (work, limiter) => () => limiter.schedule(work),
          () => new Promise((end) => granted(new Running(end, () => done))),
        )();
      });
    },
    close: async () => {
      await connection.disconnect(false);
      client.disconnect();
    },
  };
}

export const KINDS_OF_SENDERS = [
  "outbound-limiter",
  "redis-semaphore",
  "redis-semaphore, MultiSemaphore",
  "bottleneck",
] as const;
export type Kind = (typeof KINDS_OF_SENDERS)[number];

export function openSender(setup: Setup): Promise<Sender> {
  switch (setup.kind) {
    case "outbound-limiter":
      return ours(setup);
    case "redis-semaphore":
      return semaphores(setup, (client, key, cap) => new Semaphore(client, key, cap, PATIENT));
    case "redis-semaphore, MultiSemaphore":
      return semaphores(setup, (client, key, cap) => new MultiSemaphore(client, key, cap, 1, PATIENT));
    case "bottleneck":
      return bottlenecks(setup);
  }
}
