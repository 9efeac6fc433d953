// The pools of nodemailer: their connections wait for slots, share their messages, and give way when they are idle.

import type { Lease } from "../types.js";

/** nodemailer's pool: not in its types, and the same from nodemailer 6 to 10. */
export interface Pool {
  readonly _connections?: readonly PoolResource[];
  /** Messages that no connection has taken. */
  readonly _queue: Entry[];
  readonly _closed: boolean;
  /** How many messages it has sent since when, for its option `rateLimit`; 0 is none. */
  readonly _rateLimit: { readonly limit: number; counter: number; checkpoint: number | false };
}

/** A message in a pool. */
type Entry = object;

/** A connection of the pool, also before there is one. */
export interface PoolResource {
  /** Has nothing to send, and may be given a message. */
  available: boolean;
  /** The message that it has taken. */
  queueEntry?: Entry | false | undefined;
  readonly connection?: { quit(): void } | false;
  on(event: "available", listener: () => void): void;
  once(event: "close", listener: () => void): void;
  off(event: "close", listener: () => void): void;
  prependListener(event: "available", listener: () => void): void;
  send(...message: unknown[]): void;
  close(): void;
}

/** Resources that wait for a slot. None has a socket, so its message can go over another connection. */
const waiting = new WeakSet<PoolResource>();

/** Resources that have a slot, or had one. */
const served = new WeakSet<PoolResource>();

/** Resources that have asked for their socket. Each asks once: who asks beside them is `verify()`. */
const asked = new WeakSet<PoolResource>();

/** Messages that a resource was made for, in their order. */
const order = new WeakMap<Entry, number>();
let asks = 0;

/** The resource that asks: the pool makes one and has it ask in the same turn. Undefined if it is none. */
export function askerIn({ _connections: resources = [] }: Pool): PoolResource | undefined {
  const resource = resources.at(-1);
  if (!resource?.queueEntry || asked.has(resource)) return undefined;
  asked.add(resource);
  if (!order.has(resource.queueEntry)) order.set(resource.queueEntry, asks++);
  return resource;
}

/**
 * The slot of a resource. While it waits, its message can go over another connection; and the pool has counted it for
 * `rateLimit` already: here it counts when it has a slot. If it finds none and others have, its message goes back to them.
 */
export async function inTurn(pool: Pool, resource: PoolResource, slot: Promise<Lease>): Promise<Lease> {
  const { _rateLimit: rate } = pool;
  waiting.add(resource);
  if (rate.limit > 0) rate.counter--;
  try {
    const lease = await slot;
    served.add(resource);
    if (rate.limit > 0 && ++rate.counter === 1) rate.checkpoint = Date.now();
    return lease;
  } catch (error) {
    const { code } = Object(error) as { code?: unknown };
    const isLate = code === "ERR_LIMITER_TIMEOUT" || code === "ERR_LIMITER_QUEUE_FULL";
    if (isLate && !pool._closed && pool._connections?.some((other) => served.has(other))) putBack(pool, resource);
    throw error;
  } finally {
    waiting.delete(resource);
  }
}

/** A resource with a connection takes messages from those that wait for a slot, and ends when others wait for its own. */
export function shareWithin(pool: Pool, resource: PoolResource, lease: Lease, destroySoon: () => void): void {
  const end = (): void => {
    resource.available = false;
    if (resource.connection) resource.connection.quit();
    destroySoon();
  };
  // Before the pool's own listener, which gives it the first message of the queue.
  resource.prependListener("available", () => {
    if (lease.surplus) {
      resource.available = false;
      lease.idle(end);
    }
    // Before version 10, one that `rateLimit` held back may have been closed meanwhile.
    else if (pool._connections?.includes(resource)) takeBack(pool);
  });
  // After it: there was none.
  resource.on("available", () => {
    if (resource.available) lease.idle(end);
  });
  const send = resource.send.bind(resource);
  resource.send = (...message) => {
    lease.busy();
    send(...message);
  };
  resource.once("close", destroySoon);
}

/** The first message in the queue is the oldest one, if a resource has that and waits for a slot. */
function takeBack(pool: Pool): void {
  let oldest: PoolResource | undefined;
  for (const one of pool._closed ? [] : (pool._connections ?? [])) {
    if (waiting.has(one) && placeOf(one.queueEntry) < placeOf(oldest?.queueEntry)) oldest = one;
  }
  if (oldest !== undefined && placeOf(oldest.queueEntry) < placeOf(pool._queue[0])) putBack(pool, oldest);
}

/** The message of a resource without a connection is in the queue again, at its old place. */
function putBack(pool: Pool, resource: PoolResource): void {
  const entry = resource.queueEntry;
  if (!entry) return;
  const behind = pool._queue.findIndex((other) => placeOf(other) > placeOf(entry));
  pool._queue.splice(behind < 0 ? pool._queue.length : behind, 0, entry);
  resource.queueEntry = undefined;
  resource.close();
}

/** Those that no resource was made for come last. */
function placeOf(entry: Entry | false | undefined): number {
  return (entry ? order.get(entry) : undefined) ?? Number.POSITIVE_INFINITY;
}
