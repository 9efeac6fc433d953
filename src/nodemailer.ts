// "outbound-limiter/nodemailer": the sockets of nodemailer's transports, each with a lease that ends with it. Nothing of
// nodemailer is imported: it calls.

import { checkAcquire } from "./checks.js";
import { type Dial, destroyOnceEnded, dialled, type SocketOptions, type TransportOptions } from "./nodemailer/dial.js";
import { askerIn, inTurn, type Pool, type PoolResource, shareWithin } from "./nodemailer/pool.js";
import { Signals } from "./signals.js";
import { releaseOnClose } from "./socket.js";
import type { AcquireOptions, Lease, Limiter, Target } from "./types.js";

export type { Dial, Dialled, SocketOptions, TransportOptions } from "./nodemailer/dial.js";

type Callback = (error: Error | null, socketOptions?: SocketOptions) => void;

interface Opened {
  readonly lease: Lease;
  readonly socketOptions: SocketOptions;
}

/** The signals that users gave, and what waits under them. */
const signals = new Signals<AbortController>((giveUp, reason) => giveUp.abort(reason));

/**
 * A value for the option `getSocket` of nodemailer's transports, plain and pooled. It acquires, dials (`host`, `port`,
 * `localAddress`; TLS stays nodemailer's), and releases once the socket is closed, whatever happens before; 50 ms later
 * where the receiver was not the first to close, and under TLS, as it counts until it has noticed. `connectionTimeout`
 * begins with the dial, not with the wait for a slot, and covers the look-up of the host: `dnsTimeout` has no effect. With
 * a cluster, the socket is destroyed when its lease is lost.
 *
 * A pool may have `maxConnections` above the limit, and pools may share one. The messages of a pool go over the connections
 * that it has: the request of a further one then ends with a signal, which is "aborted" in the metrics. One that finds no
 * slot within `timeout`, or a full queue, costs no message while the pool has another connection. A connection with nothing
 * more to send is closed when somebody waits for its slot; not while `rateLimit` holds it back. If a limit is lowered, those
 * above it are closed after their message.
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
 * @throws {TypeError} `target` is not a function, an option of `acquire` has the wrong type, or `dial` is false: nodemailer
 *   has that once a first mail was sent
 * @throws {RangeError} a `timeout` that is negative or not a number
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
  checkAcquire(acquire);
  if (dial === false) throw new TypeError("dial is false: set transport.getSocket before the first mail is sent");

  // Not an arrow function: nodemailer calls it as a method of the transport.
  return function getSocket(this: unknown, options: object, callback): void {
    answer(Object(this) as Pool, options as TransportOptions, callback).catch((error: unknown) => {
      // What a callback throws is no rejection: without a limiter, nodemailer calls it from an event.
      queueMicrotask(() => {
        throw error;
      });
    });
  };

  async function answer(pool: Pool, options: TransportOptions, callback: Callback): Promise<void> {
    const resource = askerIn(pool);
    let opened: Opened;
    try {
      opened = await open(pool, resource, options);
    } catch (error) {
      callback(error as Error);
      // Before nodemailer 10 it would stay, and have a place in the pool for ever.
      if (resource && pool._connections?.includes(resource)) resource.close();
      return;
    }
    const { lease, socketOptions } = opened;
    const { connection } = socketOptions;
    try {
      const destroySoon = destroyOnceEnded(connection, { ...options, ...socketOptions });
      callback(null, socketOptions);
      if (resource) shareWithin(pool, resource, lease, destroySoon);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  /** A connection with its lease: both, or neither. */
  async function open(pool: Pool, resource: PoolResource | undefined, options: TransportOptions): Promise<Opened> {
    const giveUp = new AbortController();
    const leave = (): void => giveUp.abort(new Error("The pool has closed this connection"));
    resource?.once("close", leave);
    try {
      const slot = slotFor(target(options), giveUp);
      const lease = await (resource ? inTurn(pool, resource, slot) : slot);
      try {
        return { lease, socketOptions: await socketFor(lease, options, giveUp) };
      } catch (error) {
        lease.release();
        throw error;
      }
    } finally {
      resource?.off("close", leave);
    }
  }

  async function slotFor(where: Target, giveUp: AbortController): Promise<Lease> {
    const { signal } = acquire;
    if (signal?.aborted) giveUp.abort(signal.reason);
    const aborts = signal && signals.add(signal, giveUp);
    try {
      return await limiter.acquire(where, { ...acquire, signal: giveUp.signal });
    } finally {
      aborts?.remove(giveUp);
    }
  }

  async function socketFor(lease: Lease, options: TransportOptions, giveUp: AbortController): Promise<SocketOptions> {
    const { lost, release } = lease;
    lost.throwIfAborted();
    lost.addEventListener("abort", () => giveUp.abort(lost.reason));
    const socketOptions = await dialled(dial, options, giveUp);
    const { connection } = socketOptions;
    if (connection.closed) throw new Error("The connection is closed already");
    releaseOnClose({ release }, connection);
    return socketOptions;
  }
}
