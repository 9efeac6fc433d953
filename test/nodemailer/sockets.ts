// Counts the sockets of this process that are connected or about to be, by the port they go to.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";

export interface SocketCounts extends Disposable {
  /** Open now, to a port or to all. */
  open(port?: number): number;
  /** The most at once. */
  peak(port: number): number;
  /** All there were. */
  total(port: number): number;
}

/** From the attempt to the "close" of each: what a lease has to span. */
export function countSockets(): SocketCounts {
  const counts = new Map<number, { open: number; peak: number; total: number }>();
  const watch = (message: unknown): void => {
    const { socket } = message as { socket: Socket };
    socket.once("connectionAttempt", (_address: string, port: number) => {
      const count = counts.get(port) ?? { open: 0, peak: 0, total: 0 };
      counts.set(port, count);
      count.total++;
      count.open++;
      count.peak = Math.max(count.peak, count.open);
      socket.prependOnceListener("close", () => count.open--);
    });
  };
  subscribe("net.client.socket", watch);
  return {
    open: (port) =>
      port === undefined
        ? [...counts.values()].reduce((sum, { open }) => sum + open, 0)
        : (counts.get(port)?.open ?? 0),
    peak: (port) => counts.get(port)?.peak ?? 0,
    total: (port) => counts.get(port)?.total ?? 0,
    [Symbol.dispose]: () => void unsubscribe("net.client.socket", watch),
  };
}
