// "outbound-limiter/nodemailer": the sockets of nodemailer's transports, each with a lease that ends with it. Nothing of
// nodemailer is imported: it calls.

import { connect, isIP, type Socket } from "node:net";
import { addAbortSignal } from "node:stream";
import { Signals } from "./signals.js";
import type { AcquireOptions, Lease, Limiter, Milliseconds, Target } from "./types.js";

/** The options of a transport; of all that it has, these say where a connection goes, and how long it may take. */
export interface TransportOptions {
  readonly host?: string | undefined;
  readonly port?: number | string | undefined;
  readonly secure?: boolean | undefined;
  readonly localAddress?: string | undefined;
  /** For all from the dial to the greeting. */
  readonly connectionTimeout?: Milliseconds | undefined;
  /** Since when that counts, as `Date.now()`; not in every version of nodemailer. */
  readonly connectStartedAt?: number | undefined;
  /** How long nothing may come or go. */
  readonly socketTimeout?: Milliseconds | undefined;
  /** How long the other side may take to close a connection that is closed on this one; not in every version. */
  readonly socketCloseTimeout?: Milliseconds | undefined;
  readonly [option: string]: unknown;
}

/** What a dial gives: a socket, and with it options that this connection has instead of the transport's. */
interface Dialled {
  readonly connection?: Socket | undefined;
  readonly [option: string]: unknown;
}

/** How nodemailer asks for a connected socket: its option `getSocket`, and `transport.getSocket`, which it has for a `proxy`. */
export type Dial = (
  // biome-ignore lint/suspicious/noExplicitAny: nodemailer's own types differ from version to version
  options: any,
  callback: (error: Error | null, dialled?: Dialled | false) => void,
) => void;

interface Connected extends Dialled {
  readonly connection: Socket;
}

/** What nodemailer merges into the options of a connection. */
interface SocketOptions extends Connected {
  readonly connectionTimeout: Milliseconds;
}
type Callback = (error: Error | null, socketOptions?: SocketOptions) => void;

/** nodemailer's own defaults. */
const CONNECTION_TIMEOUT: Milliseconds = 2 * 60_000;
const SOCKET_TIMEOUT: Milliseconds = 10 * 60_000;
/** How long a receiver may take to answer QUIT while somebody waits for the slot, and to close what is closed here. */
const CLOSE_TIMEOUT: Milliseconds = 5_000;
const LONGEST_TIMEOUT: Milliseconds = 2 ** 31 - 1;

/**
 * A value for the option `getSocket` of nodemailer's transports, plain and pooled. It acquires, dials as nodemailer would
 * (`host`, `port`, `localAddress`; TLS stays nodemailer's), and releases when the socket is closed, whatever happens
 * before. `connectionTimeout` begins with the dial, not with the wait for a slot, and covers the look-up of the host:
 * `dnsTimeout` has no effect. With a cluster, the socket is destroyed when its lease is lost.
 *
 * A pool may have `maxConnections` above the limit, and pools may share one. A connection with nothing more to send is
 * closed when somebody waits for its slot; one that `rateLimit` holds back has. Before that it takes the messages of the
 * pool's own connections that wait: their requests end with a signal, which is "aborted" in the metrics.
 *
 * Mail that is given up while it waits gives up its place as well, if its transport is a pool. A plain transport does not
 * say so: then it is connected and closed at once, unless `timeout` or `signal` have ended the wait.
 *
 * A receiver that does not close what is closed here keeps the slot for another 5 seconds, or `socketCloseTimeout` if that
 * is longer. Before nodemailer 10, a plain transport under TLS begins to count when nothing has come for `socketTimeout`.
 *
 * With the option `proxy`, nodemailer puts a socket of its own in place of this one, and nothing is limited. Then set it
 * before the first mail, with that as `dial`: `transport.getSocket = limitedSocket(limiter, target, {}, transport.getSocket)`.
 *
 * @param target where a connection goes, by the options of its transport, such as `host` and `localAddress`
 * @param acquire `timeout` (in milliseconds; default Infinity) and `signal`, as for `acquire`
 * @param dial makes the connection; default: a TCP connection. What it gives beside the socket are options of this
 *   connection, such as `secured`. After `connectionTimeout` it has failed and its slot is free: stop it then. A socket
 *   that it gives later is destroyed
 * @returns a function that hands its callback what `acquire`, `target` and `dial` throw, untouched, and of a connection
 *   that fails the error that nodemailer's own would be: `code` "ESOCKET", "EDNS" or "ETIMEDOUT", `command` "CONN"
 * @throws {TypeError} `target` is not a function, or `dial` is false: nodemailer has that once a first mail was sent
 * @example
 * const getSocket = limitedSocket(limiter, ({ host }) => ({ domain: "example.com", host }));
 */
export function limitedSocket(
  limiter: Limiter,
  target: (options: TransportOptions) => Target,
  acquire: AcquireOptions = {},
  dial?: Dial | false,
): (options: object, callback: Callback) => void {
  if (typeof target !== "function") throw new TypeError(`target must be a function, not ${typeof target}`);
  if (dial === false) throw new TypeError("dial is false: set transport.getSocket before the first mail is sent");

  // Not an arrow function: nodemailer calls it as a method of the transport.
  return function getSocket(this: unknown, options: object, callback): void {
    void answer(Object(this) as Pool, options as TransportOptions, callback);
  };

  async function answer(pool: Pool, options: TransportOptions, callback: Callback): Promise<void> {
    const resource = askerIn(pool);
    let opened: { lease: Lease; socketOptions: SocketOptions };
    try {
      opened = await open(options, pool, resource);
    } catch (error) {
      callback(error as Error);
      // Before nodemailer 10 it would stay, and have a place in the pool for ever.
      if (resource && pool._connections?.includes(resource)) resource.close();
      return;
    }
    const { lease, socketOptions } = opened;
    const { connection } = socketOptions;
    const over = destroyOnceOver(connection, options);
    try {
      callback(null, socketOptions);
    } catch (error) {
      connection.destroy();
      throw error;
    }
    if (resource) shareWithin(pool, resource, lease, over);
  }

  /** A connection with its lease; there is neither if its pool closes it before. */
  async function open(
    options: TransportOptions,
    pool: Pool,
    resource: PoolResource | undefined,
  ): Promise<{ lease: Lease; socketOptions: SocketOptions }> {
    const giveUp = new AbortController();
    const leave = (): void => giveUp.abort(new Error("The pool has closed this connection"));
    resource?.once("close", leave);
    try {
      const where = target(options);
      const lease = await (resource ? slotInTurn(where, pool, resource, giveUp) : limiter.acquire(where, acquire));
      try {
        return { lease, socketOptions: await dialled(options, lease, giveUp) };
      } catch (error) {
        lease.release();
        throw error;
      }
    } finally {
      resource?.off("close", leave);
    }
  }

  /** A slot for a connection of a pool, which has a message to send. While it waits, another may take that message. */
  async function slotInTurn(
    where: Target,
    pool: Pool,
    resource: PoolResource,
    giveUp: AbortController,
  ): Promise<Lease> {
    if (acquire.signal?.aborted) giveUp.abort(acquire.signal.reason);
    const aborts = acquire.signal && signals.add(acquire.signal, giveUp);
    waiting.add(resource);
    // Of its message, which the pool took for sent.
    pool._rateLimit.counter--;
    try {
      const lease = await limiter.acquire(where, { ...acquire, signal: giveUp.signal });
      pool._rateLimit.counter++;
      return lease;
    } finally {
      waiting.delete(resource);
      aborts?.remove(giveUp);
    }
  }

  /** A connected socket, destroyed when its lease is lost or nobody wants it any more. */
  async function dialled(options: TransportOptions, lease: Lease, giveUp: AbortController): Promise<SocketOptions> {
    const { lost, release } = lease;
    lost.throwIfAborted();
    lost.addEventListener("abort", () => giveUp.abort(lost.reason));
    const now = Date.now();
    const timeout = Number(options.connectionTimeout) || CONNECTION_TIMEOUT;
    const timer = setTimeout(() => giveUp.abort(asOfNodemailer(new Error("Connection timeout"), "ETIMEDOUT")), timeout);
    try {
      const since = { ...options, connectStartedAt: now };
      const given = await (dial ? dialBy(dial, since, giveUp.signal) : dialTcp(since, giveUp.signal));
      if (given.connection.closed) throw new Error("The connection is closed already");
      given.connection.once("close", release);
      const waited = Math.max(0, now - (Number(options.connectStartedAt) || now));
      return { ...given, connectionTimeout: waited + timeout };
    } finally {
      clearTimeout(timer);
    }
  }
}
/** A TCP connection. Rejects once there is none, and there will be none. */
function dialTcp({ host, port, secure, localAddress }: TransportOptions, giveUp: AbortSignal): Promise<Connected> {
  const connection = connect({
    host: host || "localhost",
    port: Number(port) || (secure ? 465 : 587),
    // From an address of one family the other cannot be reached.
    ...(localAddress && { localAddress, family: isIP(localAddress) }),
  });
  addAbortSignal(giveUp, connection);
  return new Promise((resolve, reject) => {
    let trouble: Error & { syscall?: string } = new Error("Connection closed unexpectedly");
    // For ever: what destroys it under a session of TLS is told to nodemailer by that.
    connection.on("error", (error) => {
      trouble = error;
    });
    connection.once("connect", () => resolve({ connection }));
    // Not on "error": it is not closed by then.
    connection.once("close", () => {
      const code = trouble.syscall === "getaddrinfo" ? "EDNS" : "ESOCKET";
      reject(giveUp.aborted ? giveUp.reason : asOfNodemailer(trouble, code));
    });
  });
}

/** What a dial of somebody else gives; a socket that it gives with an error, too late or once more is destroyed. */
function dialBy(dial: Dial, options: TransportOptions, giveUp: AbortSignal): Promise<Connected> {
  return new Promise((resolve, reject) => {
    giveUp.addEventListener("abort", () => reject(giveUp.reason));
    let isAnswered = false;
    dial(options, (error, dialled) => {
      const connection = dialled ? dialled.connection : undefined;
      connection?.on("error", () => {});
      if (error || !connection || isAnswered || giveUp.aborted) {
        connection?.destroy();
        reject(error ?? new Error("dial gave no connection"));
      } else {
        addAbortSignal(giveUp, connection);
        resolve({ ...dialled, connection });
      }
      isAnswered = true;
    });
  });
}

/**
 * Destroys a connection that is over for this side and that the other does not close: before version 10, nodemailer waits
 * for ever. It shows in its `end`, and under TLS in the silence.
 *
 * @returns the same, for who knows that it is over
 */
function destroyOnceOver(connection: Socket, options: TransportOptions): () => void {
  const grace = Math.min(Math.max(CLOSE_TIMEOUT, Number(options.socketCloseTimeout) || 0), LONGEST_TIMEOUT);
  let timer: NodeJS.Timeout | undefined;
  const over = (): void => {
    timer ??= setTimeout(() => connection.destroy(), grace).unref();
  };
  const end = connection.end.bind(connection) as (...last: unknown[]) => Socket;
  connection.end = (...last: unknown[]) => {
    over();
    return end(...last);
  };
  const silence = Math.max(Number(options.socketTimeout) || SOCKET_TIMEOUT, Number(options.connectionTimeout) || 0);
  connection.setTimeout(silence).on("timeout", over);
  connection.once("close", () => clearTimeout(timer));
  return over;
}

/** A failed connection as nodemailer tells it: who looks at `code` need not know who dialled. */
function asOfNodemailer(error: Error, code: string): Error {
  return Object.assign(error, { originalCode: (error as { code?: unknown }).code, code, command: "CONN" });
}

/** nodemailer's pool: not in its types, and the same from nodemailer 6 to 10. */
interface Pool {
  readonly _connections?: readonly PoolResource[];
  /** Messages that no connection has taken. */
  readonly _queue: unknown[];
  readonly _closed: boolean;
  /** How many messages it has sent in this while, for its option `rateLimit`. */
  readonly _rateLimit: { counter: number };
}

/** A connection of the pool, also before there is one. */
interface PoolResource {
  /** Has nothing to send, and may be given a message. */
  available: boolean;
  /** The message that it has taken. */
  queueEntry?: unknown;
  readonly connection?: { readonly options?: { readonly connection?: Socket }; quit(): void } | false;
  on(event: "available", listener: () => void): void;
  once(event: "close", listener: () => void): void;
  off(event: "close", listener: () => void): void;
  prependListener(event: "available", listener: () => void): void;
  send(...message: unknown[]): void;
  close(): void;
}

/** Resources that wait for a slot. None has a socket, so its message can go over another connection. */
const waiting = new WeakSet<PoolResource>();

/** The signals that users gave for such waits. */
const signals = new Signals<AbortController>((giveUp, reason) => giveUp.abort(reason));

/** Resources that have asked for their socket. Each asks once: who asks beside them is `verify()`. */
const asked = new WeakSet<PoolResource>();

/** The resource that asks: the pool makes one and has it ask in the same turn. Undefined if it is none. */
function askerIn({ _connections: resources = [] }: Pool): PoolResource | undefined {
  const resource = resources.at(-1);
  if (!resource?.queueEntry || asked.has(resource)) return undefined;
  asked.add(resource);
  return resource;
}

/** A resource with a connection takes messages from those that wait for a slot, and ends when others wait for its own. */
function shareWithin(pool: Pool, resource: PoolResource, lease: Lease, over: () => void): void {
  const end = (): void => {
    resource.available = false;
    if (resource.connection) resource.connection.quit();
    over();
  };
  // Before the pool's own listener, which gives it the first message of the queue.
  resource.prependListener("available", () => takeBack(pool));
  // After it: there was none.
  resource.on("available", () => {
    if (resource.available) lease.idle(end);
  });
  const send = resource.send.bind(resource);
  resource.send = (...message) => {
    lease.busy();
    send(...message);
  };
  resource.once("close", over);
}

/** The message of the resource that waits longest for a slot is the first in the queue again. */
function takeBack(pool: Pool): void {
  const other = pool._closed ? undefined : pool._connections?.find((one) => one.queueEntry && waiting.has(one));
  if (other === undefined) return;
  pool._queue.unshift(other.queueEntry);
  other.queueEntry = undefined;
  other.close();
}
