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
 * A pooled connection that has nothing to send is closed when somebody waits for its slot, so a pool may have
 * `maxConnections` above the limit, and pools may share one.
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
    void serve(this, options as TransportOptions, callback);
  };

  async function serve(transport: unknown, options: TransportOptions, callback: Callback): Promise<void> {
    let opened: { lease: Lease; socketOptions: SocketOptions };
    try {
      opened = await open(options);
    } catch (error) {
      callback(error as Error);
      return;
    }
    const { lease, socketOptions } = opened;
    try {
      callback(null, socketOptions);
      closeWhenIdle(transport, socketOptions.connection, lease);
    } catch (error) {
      socketOptions.connection.destroy();
      throw error;
    }
  }

  async function open(options: TransportOptions): Promise<{ lease: Lease; socketOptions: SocketOptions }> {
    const lease = await limiter.acquire(target(options), acquire);
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

/** One connection of nodemailer's pool, the same from nodemailer 6 to 10. */
interface PoolResource {
  /** Has nothing to send, and may be given a message. */
  available: boolean;
  readonly connection?: { readonly options?: { readonly connection?: Socket }; quit(): void } | false;
  on(event: "available", listener: () => void): void;
  send(...message: unknown[]): void;
}

/** Closes a pooled connection as the pool does that idles too long, when somebody waits for its slot. */
function closeWhenIdle(transport: unknown, socket: Socket, lease: Lease): void {
  const { _connections: resources = [] } = Object(transport) as { _connections?: readonly PoolResource[] };
  const resource = resources.find(({ connection }) => connection && connection.options?.connection === socket);
  if (resource === undefined) return;

  const end = (): void => {
    resource.available = false;
    if (resource.connection) resource.connection.quit();
    setTimeout(() => socket.destroy(), QUIT_TIMEOUT).unref();
  };
  // After the pool's own listener: it may have been given the next message by then.
  resource.on("available", () => {
    if (resource.available) lease.idle(end);
  });
  const send = resource.send.bind(resource);
  resource.send = (...message) => {
    lease.busy();
    send(...message);
  };
}
