// A lease that ends with its socket: no sooner than the receiver has stopped to count the connection.

import type { Socket } from "node:net";
import { typeName } from "./core/target.js";
import type { Lease, Milliseconds } from "./types.js";

/** How long a receiver may take to notice that a connection is closed. */
const NOTICE: Milliseconds = 50;

/** The socket that a lease was given last. */
const socketOf = new WeakMap<object, Socket>();

/**
 * Releases a lease when its socket is closed, whatever closes it: a dial that fails, a reset, a timeout, `destroy`. Where the
 * receiver was not the first to close, and always under TLS, it is released 50 ms later, since the receiver counts the
 * connection until it has noticed. And with a cluster it destroys the socket, with `lease.lost.reason` as its error, when
 * the lease is lost, or is lost already.
 *
 * Call it as soon as there is a socket, before anything that may throw; where a lease is to `move` on after a dial that
 * failed, once the socket is connected. Given another socket, a lease ends with that one. With TLS on top of a plain socket
 * (STARTTLS), give it the plain one. A receiver may never close its side: `socket.setTimeout` and `destroy` are for that.
 *
 * @param lease of `acquire`, `acquireAny` or `tryAcquire`; or an object with the function `release`, and `lost` if it has that
 * @param socket of `node:net` or `node:tls`; one that is closed already ends the lease as well
 * @throws {TypeError} `lease` has no function `release`, as a promise of one has not, or `socket` is no socket; nothing was
 *   released
 * @example
 * const lease = await limiter.acquire(target);
 * const socket = net.connect(2525, "127.0.0.1");
 * releaseOnClose(lease, socket);
 * socket.on("error", (error) => defer(message, error)); // nobody listens there: the lease ends all the same
 */
export function releaseOnClose(
  lease: Pick<Lease, "release"> & Partial<Pick<Lease, "lost">>,
  socket: Socket & { readonly encrypted?: boolean },
): void {
  if (typeof Object(lease).release !== "function") {
    const what = "then" in Object(lease) ? "a promise: await it first" : typeName(lease);
    throw new TypeError(`lease must have a function release; it is ${what}`);
  }
  if (typeof Object(socket).destroy !== "function")
    throw new TypeError(`socket must be a socket, not ${typeName(socket)}`);
  const { lost } = lease;
  socketOf.set(lease, socket);
  const isLast = (): boolean => socketOf.get(lease) === socket;
  const release = (): void => {
    if (isLast()) lease.release();
  };
  const closed = (): void => {
    // Of TLS itself only the end of its session shows, and not whether the receiver has closed the connection below.
    if (socket.readableEnded && !socket.encrypted) release();
    // A timer that keeps the process: those who wait for the slot may not.
    else setTimeout(release, NOTICE);
  };
  if (socket.closed) closed();
  else socket.once("close", closed);
  const destroy = (): void => {
    if (isLast()) socket.destroy(lost?.reason);
  };
  lost?.addEventListener("abort", destroy);
  if (lost?.aborted) destroy();
}
