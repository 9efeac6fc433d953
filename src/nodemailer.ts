// "outbound-limiter/nodemailer": the sockets of nodemailer's transports, each with a lease that ends with it. Nothing of
// nodemailer is imported: it calls.

import { connect, isIP, type Socket } from "node:net";
import { addAbortSignal } from "node:stream";
import type { AcquireOptions, Lease, Limiter, Milliseconds, Target } from "./types.js";

/** What nodemailer merges into the options of a connection. */
type SocketOptions = { connection: Socket; connectionTimeout: Milliseconds };
type Callback = (error: Error | null, socketOptions?: SocketOptions) => void;

/** The options of a transport; of all that it has, these say where a connection goes. */
export interface TransportOptions {
  readonly host?: string | undefined;
  readonly port?: number | string | undefined;
  readonly secure?: boolean | undefined;
  readonly localAddress?: string | undefined;
  /** For all from the dial to the greeting. */
  readonly connectionTimeout?: Milliseconds | undefined;
  /** Since when that counts, as `Date.now()`; not in every version of nodemailer. */
  readonly connectStartedAt?: number | undefined;
  readonly [option: string]: unknown;
}

/** How nodemailer asks for a connected socket: its option `getSocket`, and `transport.getSocket`, which it has for a `proxy`. */
export type Dial = (
  // biome-ignore lint/suspicious/noExplicitAny: nodemailer's own types differ from version to version
  options: any,
  callback: (error: Error | null, socketOptions?: { connection?: Socket | undefined } | false) => void,
) => void;

/** nodemailer's own default. */
const CONNECTION_TIMEOUT: Milliseconds = 2 * 60_000;
/** How long a receiver may take to answer QUIT while somebody waits for the slot. */
const QUIT_TIMEOUT: Milliseconds = 5_000;

/**
 * A value for the option `getSocket` of nodemailer's transports, plain and pooled. It acquires, dials as nodemailer would
 * (`host`, `port`, `localAddress`, `connectionTimeout`; TLS stays nodemailer's), and releases when the socket is closed,
 * whatever happens before. The wait for a slot does not count as `connectionTimeout`. With a cluster, the socket is
 * destroyed when its lease is lost.
 *
 * A pool may have `maxConnections` above the limit, and pools may share one. A connection with nothing more to send is
 * closed when somebody waits for its slot. Before that it takes the messages of the pool's own connections that wait:
 * their requests end with a signal, which is "aborted" in the metrics.
 *
 * With the option `proxy`, nodemailer puts a socket of its own in place of this one, and nothing is limited. Then set it
 * before the first mail, with that as `dial`: `transport.getSocket = limitedSocket(limiter, target, {}, transport.getSocket)`.
 *
 * @param target where a connection goes, by the options of its transport, such as `host` and `localAddress`
 * @param acquire `timeout` (in milliseconds; default Infinity) and `signal`, as for `acquire`
 * @param dial makes the connection; default: a TCP connection. After `connectionTimeout` it has failed, and a socket that
 *   it gives later is destroyed
 * @returns a function that hands its callback what `acquire`, `target` and `dial` throw, untouched, and of a connection
 *   that fails the error that nodemailer's own would be: `code` "ESOCKET", "EDNS" or "ETIMEDOUT", `command` "CONN"
 * @throws {TypeError} `target` is not a function, or `dial` is false: nodemailer has that once a first mail was sent
 * @example
 * const getSocket = limitedSocket(limiter, ({ host }) => ({ domain: "example.com", host }));
 */
export function limitedSocket(
  limiter: Limiter,
  target: (options: TransportOptions) => Target,
  acquire?: AcquireOptions,
  dial?: Dial | false,
): (options: object, callback: Callback) => void {
  if (typeof target !== "function") throw new TypeError(`target must be a function, not ${typeof target}`);
  if (dial === false) throw new TypeError("dial is false: set transport.getSocket before the first mail is sent");

  // Not an arrow function: nodemailer calls it as a method of the transport.
  return function getSocket(this: unknown, options: object, callback): void {
    void serve(Object(this) as Pool, options as TransportOptions, callback);
  };

  async function serve(pool: Pool, options: TransportOptions, callback: Callback): Promise<void> {
    const resource = askerIn(pool);
    let opened: { lease: Lease; socketOptions: SocketOptions };
    try {
      opened = await open(options, resource);
    } catch (error) {
      callback(error as Error);
      // Before nodemailer 10 it would stay, and have a place in the pool for ever.
      if (resource && pool._connections?.includes(resource)) resource.close();
      return;
    }
    const { lease, socketOptions } = opened;
    try {
      callback(null, socketOptions);
      if (resource) shareWithin(pool, resource, socketOptions.connection, lease);
    } catch (error) {
      socketOptions.connection.destroy();
      throw error;
    }
  }

  async function open(
    options: TransportOptions,
    resource: PoolResource | undefined,
  ): Promise<{ lease: Lease; socketOptions: SocketOptions }> {
    const lease = await acquired(target(options), resource);
    try {
      const now = Date.now();
      const timeout = Number(options.connectionTimeout) || CONNECTION_TIMEOUT;
      const connection = await dialled({ ...options, connectStartedAt: now }, timeout, lease.lost, dial);
      if (connection.closed) throw new Error("The connection is closed already");
      connection.once("close", lease.release);
      const waited = Math.max(0, now - (Number(options.connectStartedAt) || now));
      return { lease, socketOptions: { connection, connectionTimeout: waited + timeout } };
    } catch (error) {
      lease.release();
      throw error;
    }
  }

  async function acquired(where: Target, resource: PoolResource | undefined): Promise<Lease> {
    if (resource === undefined) return limiter.acquire(where, acquire);
    const leave = new AbortController();
    const signal = acquire?.signal ? AbortSignal.any([acquire.signal, leave.signal]) : leave.signal;
    waiting.set(resource, leave);
    try {
      return await limiter.acquire(where, { ...acquire, signal });
    } finally {
      waiting.delete(resource);
    }
  }
}

/** A connected socket, destroyed when its lease is lost. Rejects once there is none, and there will be none. */
async function dialled(
  options: TransportOptions,
  timeout: Milliseconds,
  lost: AbortSignal,
  dial: Dial | false | undefined,
): Promise<Socket> {
  lost.throwIfAborted();
  const giveUp = new AbortController();
  lost.addEventListener("abort", () => giveUp.abort(lost.reason));
  const timer = setTimeout(() => giveUp.abort(asOfNodemailer(new Error("Connection timeout"), "ETIMEDOUT")), timeout);
  try {
    return await (dial ? dialledBy(dial, options, giveUp.signal) : connected(options, giveUp.signal));
  } finally {
    clearTimeout(timer);
  }
}

function connected({ host, port, secure, localAddress }: TransportOptions, giveUp: AbortSignal): Promise<Socket> {
  const socket = connect({
    host: host || "localhost",
    port: Number(port) || (secure ? 465 : 587),
    // From an address of one family the other cannot be reached.
    ...(localAddress && { localAddress, family: isIP(localAddress) }),
  });
  addAbortSignal(giveUp, socket);
  return new Promise((resolve, reject) => {
    let trouble: Error & { syscall?: string } = new Error("Connection closed unexpectedly");
    // For ever: what destroys it under a session of TLS is told to nodemailer by that.
    socket.on("error", (error) => {
      trouble = error;
    });
    socket.once("connect", () => resolve(socket));
    // Not on "error": it is not closed by then.
    socket.once("close", () => {
      const code = trouble.syscall === "getaddrinfo" ? "EDNS" : "ESOCKET";
      reject(giveUp.aborted ? giveUp.reason : asOfNodemailer(trouble, code));
    });
  });
}

function dialledBy(dial: Dial, options: TransportOptions, giveUp: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    giveUp.addEventListener("abort", () => reject(giveUp.reason));
    dial(options, (error, socketOptions) => {
      const socket = socketOptions ? socketOptions.connection : undefined;
      if (error || !socket) return reject(error ?? new Error("dial gave no connection"));
      resolve(addAbortSignal(giveUp, socket).on("error", () => {}));
    });
  });
}

/** A failed connection as nodemailer tells it: who looks at `code` need not know who dialled. */
function asOfNodemailer(error: Error, code: string): Error {
  return Object.assign(error, { originalCode: (error as { code?: unknown }).code, code, command: "CONN" });
}

/** nodemailer's pool and one of its connections: not in its types, and the same from nodemailer 6 to 10. */
interface Pool {
  readonly _connections?: readonly PoolResource[];
  /** Messages that no connection has taken. */
  readonly _queue: unknown[];
  readonly _closed: boolean;
}
interface PoolResource {
  /** Has nothing to send, and may be given a message. */
  available: boolean;
  /** The message that it has taken. */
  queueEntry?: unknown;
  readonly connection?: { readonly options?: { readonly connection?: Socket }; quit(): void } | false;
  on(event: "available", listener: () => void): void;
  prependListener(event: "available", listener: () => void): void;
  send(...message: unknown[]): void;
  close(): void;
}

/** Connections of pools that wait for their slot, with the message that they have taken; and what ends the wait. */
const waiting = new WeakMap<PoolResource, AbortController>();

/** Connections of pools that have asked for their socket. Each asks once: who asks beside them is `verify()`. */
const asked = new WeakSet<PoolResource>();

/** The connection of the pool that asks: the pool makes one and has it ask in the same turn. Undefined if it is none. */
function askerIn({ _connections: resources = [] }: Pool): PoolResource | undefined {
  const resource = resources.at(-1);
  if (!resource?.queueEntry || asked.has(resource)) return undefined;
  asked.add(resource);
  return resource;
}

/** Connections of a pool take messages from those that wait for a slot, and end when others wait for theirs. */
function shareWithin(pool: Pool, resource: PoolResource, socket: Socket, lease: Lease): void {
  const end = (): void => {
    resource.available = false;
    if (resource.connection) resource.connection.quit();
    setTimeout(() => socket.destroy(), QUIT_TIMEOUT).unref();
  };
  // Before the pool's own listener, which gives it the first message of the queue.
  resource.prependListener("available", () => {
    const other = pool._closed ? undefined : pool._connections?.find((one) => one.queueEntry && waiting.has(one));
    if (other === undefined) return;
    pool._queue.unshift(other.queueEntry);
    other.queueEntry = undefined;
    waiting.get(other)?.abort(new Error("The message goes over another connection of the pool"));
    other.close();
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
}
