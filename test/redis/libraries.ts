// Every client that redisCluster takes, opened as its users do: on one server, and on a cluster where it can.

/** A connected client, and how its user closes it: at once, whatever is under way. */
export interface Opened extends Disposable {
  readonly client: object;
}

export interface Library {
  readonly name: string;
  readonly open: (url: string) => Promise<Opened>;
  readonly openCluster: (urls: readonly string[]) => Promise<Opened>;
}

interface IoRedisClient {
  connect(): Promise<unknown>;
  disconnect(): void;
  on(event: "error", listener: () => void): unknown;
}
interface IoRedisModule {
  readonly Redis: new (url: string, options: { readonly lazyConnect: true }) => IoRedisClient;
  readonly Cluster: new (urls: readonly string[], options: { readonly lazyConnect: true }) => IoRedisClient;
}

function likeIoredis(name: string, load: () => Promise<unknown>): Library {
  const loaded = async () => (await load()) as IoRedisModule;
  const opened = async (client: IoRedisClient): Promise<Opened> => {
    client.on("error", () => {});
    await client.connect();
    return { client, [Symbol.dispose]: () => client.disconnect() };
  };
  return {
    name,
    open: async (url) => opened(new (await loaded()).Redis(url, { lazyConnect: true })),
    openCluster: async (urls) => opened(new (await loaded()).Cluster(urls, { lazyConnect: true })),
  };
}

interface NodeRedisClient {
  connect(): Promise<unknown>;
  destroy?: () => void;
  disconnect(): unknown;
  on(event: "error", listener: () => void): unknown;
}
interface NodeRedisModule {
  createClient(options: { readonly url: string }): NodeRedisClient;
  createCluster(options: { rootNodes: { url: string }[] }): NodeRedisClient;
}

function likeNodeRedis(name: string, load: () => Promise<unknown>): Library {
  const loaded = async () => (await load()) as NodeRedisModule;
  const opened = async (client: NodeRedisClient): Promise<Opened> => {
    client.on("error", () => {});
    await client.connect();
    // Version 4 has no destroy.
    return {
      client,
      [Symbol.dispose]: () => void (client.destroy === undefined ? client.disconnect() : client.destroy()),
    };
  };
  return {
    name,
    open: async (url) => opened((await loaded()).createClient({ url })),
    openCluster: async (urls) => opened((await loaded()).createCluster({ rootNodes: urls.map((url) => ({ url })) })),
  };
}

/** Each is loaded when it is opened. */
export const LIBRARIES: readonly Library[] = [
  likeIoredis("ioredis 5", async () => import("ioredis")),
  likeIoredis("ioredis 6", async () => import("ioredis6")),
  likeIoredis("iovalkey", async () => import("iovalkey")),
  likeNodeRedis("redis 4", async () => import("redis4")),
  likeNodeRedis("redis 5", async () => import("redis5")),
  likeNodeRedis("redis 6", async () => import("redis")),
];
