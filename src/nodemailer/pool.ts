// The pools of nodemailer: their connections wait for slots, share their messages, and give way when they are idle.

import type { Lease } from "../types.js";

/** nodemailer's pool: not in its types, and the same from nodemailer 6 to 10. */
export interface Pool {
  readonly _connections?: readonly PoolResource[];
  /** Messages that no connection has taken. */
  readonly _queue: unknown[];
  readonly _closed: boolean;
  /** How many messages it has sent since when, for its option `rateLimit`; 0 is none. */
  readonly _rateLimit: { readonly limit: number; counter: number; checkpoint: number | false };
}

/** A connection of the pool, also before there is one. */
export interface PoolResource {
  /** Has nothing to send, and may be given a message. */
  available: boolean;
  /** The message that it has taken. */
  queueEntry?: unknown;
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

/** Resources that have asked for their socket. Each asks once: who asks beside them is `verify()`. */
const asked = new WeakSet<PoolResource>();

/** The resource that asks: the pool makes one and has it ask in the same turn. Undefined if it is none. */
export function askerIn({ _connections: resources = [] }: Pool): PoolResource | undefined {
  const resource = resources.at(-1);
  if (!resource?.queueEntry || asked.has(resource)) return undefined;
  asked.add(resource);
  return resource;
}

/**
 * The slot of a resource. While it waits, its message can go over another connection; and the pool has counted it for
 * `rateLimit` already: here it counts when it has a slot.
 */
export async function inTurn(pool: Pool, resource: PoolResource, slot: Promise<Lease>): Promise<Lease> {
  const { _rateLimit: rate } = pool;
  waiting.add(resource);
  if (rate.limit > 0) rate.counter--;
  try {
    const lease = await slot;
    if (rate.limit > 0 && ++rate.counter === 1) rate.checkpoint = Date.now();
    return lease;
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
    // Before version 10, one that `rateLimit` held back may have been closed meanwhile.
    if (pool._connections?.includes(resource)) takeBack(pool);
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

/** The message of the resource that waits longest for a slot is the first in the queue again. */
function takeBack(pool: Pool): void {
  const other = pool._closed ? undefined : pool._connections?.find((one) => one.queueEntry && waiting.has(one));
  if (other === undefined) return;
  pool._queue.unshift(other.queueEntry);
  other.queueEntry = undefined;
  other.close();
}
