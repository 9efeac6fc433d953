// "outbound-limiter/nodemailer": the sockets of nodemailer's transports, each with a lease that ends with it. Nothing of
// nodemailer is imported: it calls.

import { connect, isIP, type Socket } from "node:net";
import type { AcquireOptions, Lease, Limiter, Target } from "./types.js";

/** What nodemailer merges into the options of the connection. */
type SocketOptions = { readonly connection: Socket; readonly connectionTimeout: number };
type Callback = (error: Error | null, socketOptions?: SocketOptions) => void;

/** Of a transport's options, with nodemailer's defaults, what a dial needs. */
interface DialOptions {
  readonly host?: string | undefined;
  readonly port?: number | string | undefined;
  readonly secure?: boolean | undefined;
  readonly localAddress?: string | undefined;
  readonly family?: number | undefined;
  /** For connecting and all that comes before the first message. */
  readonly connectionTimeout?: number | undefined;
  /** Since when `connectionTimeout` counts, as `Date.now()`; not in old versions. */
  readonly connectStartedAt?: number | undefined;
  readonly proxy?: unknown;
}

/** nodemailer's own default. */
const CONNECTION_TIMEOUT = 2 * 60_000;
/** How long a receiver may take to answer QUIT and to close, while somebody waits for the slot. */
const QUIT_TIMEOUT = 5_000;

/**
 * A value for the option `getSocket` of nodemailer's transports, plain and pooled. It acquires, dials as nodemailer would
 * (`host`, `port`, `localAddress`, `connectionTimeout`; TLS stays nodemailer's), and releases when the socket is closed,
 * whatever happens. The time a connection waits for its slot does not count as `connectionTimeout`.
 *
 * A pooled connection that is idle is closed when somebody waits for its slot, so `maxConnections` may be above the limit.
 *
 * With `proxy` as a string, nodemailer replaces `getSocket` with its own, and nothing is limited: give a `URL` instead.
 *
 * @param target where a connection goes, by the options of its transport
 * @param acquire `timeout` and `signal`, as for `acquire`
 * @returns a function that gives what `acquire` and `target` throw, untouched, to its callback
 * @throws {TypeError} `target` is not a function
 * @example
 * const getSocket = limitedSocket(limiter, () => ({ domain: "gmail.com", host: "gmail-smtp-in.l.google.com" }));
 */
export function limitedSocket(
  limiter: Limiter,
  target: (options: object) => Target,
  acquire?: AcquireOptions,
): (options: object, callback: Callback) => void {
  if (typeof target !== "function") throw new TypeError(`target must be a function, not ${typeof target}`);
  // Not an arrow function: nodemailer calls it as a method of the transport.
  return function getSocket(this: unknown, options: object, callback: Callback): void {
    new Promise<Lease>((resolve) => resolve(limiter.acquire(target(options), acquire))).then(
      (lease) => open(lease, this, options, callback),
      (error) => setImmediate(callback, error),
    );
  };
}

/** Dials, by the proxy if there is one, and gives the connected socket to the transport. */
function open(lease: Lease, transport: unknown, options: DialOptions, callback: Callback): void {
  const timeout = Number(options.connectionTimeout) || CONNECTION_TIMEOUT;
  const now = Date.now();
  const waited = Math.max(0, now - (Number(options.connectStartedAt) || now));
  const handOver = (socket: Socket): void => {
    try {
      callback(null, { connection: socket, connectionTimeout: waited + timeout });
    } catch (error) {
      socket.destroy();
      throw error;
    }
    closeWhenIdle(transport, socket, lease);
  };
  try {
    if (options.proxy instanceof URL) {
      dialThrough(options.proxy, transport, { ...options, connectStartedAt: now }, lease, handOver, callback);
    } else dial(options, timeout, lease, handOver, callback);
  } catch (error) {
    // A port or an address that cannot be: there is no socket.
    lease.release();
    setImmediate(callback, error as Error);
  }
}

/** @throws for options that `connect` cannot use */
function dial(
  { host = "localhost", port, secure, localAddress, family }: DialOptions,
  timeout: number,
  lease: Lease,
  handOver: (socket: Socket) => void,
  fail: (error: Error) => void,
): void {
  const socket = connect({
    host: host || "localhost",
    port: Number(port) || (secure ? 465 : 587),
    // From an address of one family the other cannot be reached.
    family: family ?? isIP(localAddress ?? ""),
    ...(localAddress && { localAddress }),
  });
  hold(socket, lease);

  let trouble: Error | undefined;
  const timer = setTimeout(() => {
    const error = new Error("Connection timeout");
    socket.destroy(Object.assign(error, { code: "ETIMEDOUT", timeoutType: "CONNECT_TIMEOUT", command: "CONN" }));
  }, timeout);
  socket.once("error", (error) => {
    trouble = error;
  });
  // Not on "error": by then the slot is back.
  const closed = (): void => {
    clearTimeout(timer);
    fail(asOfNodemailer(trouble ?? new Error("Connection closed unexpectedly")));
  };
  socket.once("close", closed);
  socket.once("connect", () => {
    clearTimeout(timer);
    socket.off("close", closed);
    handOver(socket);
  });
}
