// The driver for redis (node-redis) 4, 5 and 6, for one server or for a cluster.

import { can, type Driver, type Script, type SubscriberEvents } from "./driver.js";

/** As far as it is used. */
interface NodeRedis {
  readonly isOpen?: boolean;
  /** Of a client for one server. */
  readonly isReady?: boolean;
  readonly isPubSubActive?: boolean;
  readonly options?: { readonly legacyMode?: boolean; readonly RESP?: number } | undefined;
  evalSha(hash: string, options: ScriptOptions): Promise<unknown>;
  eval(script: string, options: ScriptOptions): Promise<unknown>;
}
type Texts = readonly string[];
interface ScriptOptions {
  readonly keys: Texts;
  readonly arguments: Texts;
}
/** A client for a cluster, of version 4. */
interface OldCluster extends NodeRedis {
  sendCommand(firstKey: string | undefined, isReadonly: boolean, args: readonly string[]): Promise<unknown>;
}
interface Duplicable extends NodeRedis {
  duplicate(): Subscriber;
}
interface Subscriber extends NodeRedis {
  connect(): Promise<unknown>;
  subscribe(channels: readonly string[], listener: (text: string, channel: string) => void): Promise<unknown>;
  on(event: string, listener: (error: unknown) => void): unknown;
  /** From version 5 on; before that, `disconnect`. */
  destroy?(): unknown;
  disconnect(): Promise<unknown>;
  /** Of a client for one server. */
  unref?(): void;
}

/** @throws {TypeError} one of these clients, but it cannot run scripts */
export function nodeRedisDriver(client: object): Driver | undefined {
  if (!can<NodeRedis>(client, ["evalSha", "eval"])) return;
  if (client.options?.legacyMode === true || client.isOpen === undefined) {
    throw new TypeError("redisCluster needs a client that answers with promises, not one in legacy mode");
  }
  // Where it is known that both cannot be: from version 5 on, the protocol may allow it.
  if (client.isPubSubActive === true && (client.options?.RESP === 2 || !isFrom5On(client))) {
    throw new TypeError("redisCluster needs a client that runs scripts, not one that is subscribed to channels");
  }
  const driver = isOldCluster(client)
    ? oldClusterDriver(client)
    : {
        isSingle: !isCluster(client),
        evalsha: async ({ hash }: Script, keys: Texts, args: Texts) => client.evalSha(hash, { keys, arguments: args }),
        eval: async ({ text }: Script, keys: Texts, args: Texts) => client.eval(text, { keys, arguments: args }),
      };
  // A pool has none.
  if (!can<Duplicable>(client, ["duplicate"])) return driver;
  return { ...driver, subscribe: (channels, events) => subscribe(client.duplicate(), channels, events) };
}

function subscribe(subscriber: Subscriber, channels: readonly string[], events: SubscriberEvents): Disposable {
  let disposed = false;
  let subscribed = false;
  const close = async (): Promise<void> => {
    try {
      await (subscriber.destroy === undefined ? subscriber.disconnect() : subscriber.destroy());
    } catch {
      // It is closed.
    }
  };

  subscriber.on("error", (error) => {
    if (disposed) void close();
    else if (subscriber.isOpen !== true) events.end(error);
  });
  subscriber.on("reconnecting", events.down);
  subscriber.on("ready", () => {
    if (disposed) void close();
    // The first time it is not subscribed yet; after that the client has seen to it.
    else if (subscribed) events.up();
  });
  // Where it is still connecting when it is disposed of, that is not to keep the process running.
  subscriber.unref?.();
  const begin = async (): Promise<void> => {
    await subscriber.connect();
    if (disposed) return close();
    await subscriber.subscribe(channels, (text, channel) => events.message(channel, text));
    subscribed = true;
    events.up();
  };
  begin().catch(events.end);
  return {
    [Symbol.dispose]() {
      disposed = true;
      // A client for one server that is closed while it connects leaves its socket open: closed when that has ended.
      if (isCluster(subscriber) || subscriber.isReady === true) void close();
    },
  };
}

/** Its own `eval` and `evalSha` go to any node, and from there to any other: they look for the keys in the wrong argument. */
function oldClusterDriver(client: OldCluster): Driver {
  const send =
    (name: string): Driver["eval"] =>
    async (script, keys, args) =>
      client.sendCommand(keys[0], false, [
        name,
        name === "EVAL" ? script.text : script.hash,
        String(keys.length),
        ...keys,
        ...args,
      ]);
  return { isSingle: false, evalsha: send("EVALSHA"), eval: send("EVAL") };
}

function isOldCluster(client: NodeRedis): client is OldCluster {
  return isCluster(client) && !isFrom5On(client) && can<OldCluster>(client, ["sendCommand"]);
}

function isFrom5On(client: object): boolean {
  return can<{ destroy(): unknown }>(client, ["destroy"]);
}

function isCluster(client: object): boolean {
  return can<{ nodeClient(): unknown }>(client, ["nodeClient"]);
}
