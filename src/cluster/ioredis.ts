// The driver for ioredis 5 and 6 and iovalkey, for one server or for a cluster.

import { can, type Driver } from "./driver.js";

/** As far as it is used. */
interface IoRedis {
  readonly status: string;
  readonly isCluster?: boolean;
  /** "normal", "subscriber" or "monitor"; a cluster has none. */
  readonly mode?: string;
  evalsha(hash: string, keyCount: number, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  eval(script: string, keyCount: number, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  duplicate(): IoRedis;
  connect(): Promise<unknown>;
  disconnect(): void;
  subscribe(...channels: readonly string[]): Promise<unknown>;
  on(event: string, listener: (...args: readonly never[]) => void): unknown;
}

/** @throws {TypeError} one of these clients, but it cannot run scripts */
export function ioredisDriver(client: object): Driver | undefined {
  if (!can<IoRedis>(client, ["evalsha", "eval", "duplicate", "connect", "disconnect", "subscribe", "on"])) return;
  if (client.mode === "subscriber" || client.mode === "monitor") {
    throw new TypeError(`redisCluster needs a client that runs scripts, not one in ${client.mode} mode`);
  }
  return {
    isSingle: client.isCluster !== true,
    // As lists, which the client flattens: a statement may be too long for the arguments of a function.
    evalsha: async ({ hash }, keys, args) => client.evalsha(hash, keys.length, keys, args),
    eval: async ({ text }, keys, args) => client.eval(text, keys.length, keys, args),
    subscribe: (channels, events) => {
      const subscriber = client.duplicate();
      // It gets over them, or ends; without a listener each would be told on the console.
      const ignore = (): void => {};
      subscriber.on("error", ignore);
      subscriber.on("message", events.message);
      // At each time: where the user's options say not to subscribe again by itself, or not to queue, this still does.
      subscriber.on("ready", () => void subscriber.subscribe(...channels).then(events.up, events.end));
      subscriber.on("close", events.down);
      subscriber.on("end", () => events.end("the client gave up"));
      if (subscriber.status === "wait") subscriber.connect().catch(ignore);
      return { [Symbol.dispose]: () => subscriber.disconnect() };
    },
  };
}
