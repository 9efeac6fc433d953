// "outbound-limiter/redis": the cluster limits over processes and machines, kept by Redis or Valkey, through the user's
// own client.

import { makeCluster, type WhenDown } from "./cluster/cluster.js";
import type { RunScript } from "./cluster/driver.js";
import { RedisEngine } from "./cluster/redis.js";
import type { Cluster, Milliseconds } from "./types.js";

/**
 * A client of ioredis 5 or 6, of iovalkey, or of redis (node-redis) 4, 5 or 6, for one server or for a cluster. Or a
 * function that runs a script of Lua: then nothing is told between beats, so a slot that comes free may reach a waiting
 * process a fifth of `ttl` later.
 */
export type RedisClient = object | RunScript;

export interface RedisClusterOptions {
  /**
   * The name space: processes with the same prefix share their limits. All keys and channels begin with it in braces,
   * so that a Redis Cluster keeps them on one node.
   * @default "outbound-limiter"
   */
  readonly prefix?: string | undefined;
  /**
   * After this long without a sign of life, in milliseconds, a process's slots go to the others; it has aborted its
   * `lost` signals before. The same for all processes of a name space. At least 500.
   * @default 15_000
   */
  readonly ttl?: Milliseconds | undefined;
  /**
   * What becomes of new connections while the engine does not answer. "refuse": none under a limit of the cluster.
   * "share": as many as this process's part, the limit by the number of processes known last. "admit": as if this
   * process were alone.
   * @default "refuse"
   */
  readonly whenDown?: WhenDown | undefined;
  /**
   * The name space was never used: nobody can hold a slot that the engine does not know of. Otherwise the first process
   * on an empty engine waits one `ttl` for others to say what they hold.
   * @default false
   */
  readonly isNew?: boolean | undefined;
  /**
   * Ends this process where its event loop is blocked for so long that others get its slots, while it may still hold the
   * connections.
   * @default true
   */
  readonly watchdog?: boolean | undefined;
}

/**
 * Limits of a cluster, kept by Redis 7 or Valkey. Connects to nothing by itself: it uses the client, and a duplicate of
 * it to listen, from when a limiter is made with the cluster until that is closed. The client stays the caller's to connect
 * and to close. What it cannot reach is not an error here: `whenDown` says what then happens.
 *
 * @param options `prefix`, `ttl`, `whenDown`, `isNew` and `watchdog`
 * @throws {TypeError} not a client, one that cannot run scripts, or an option that does not exist or has another type
 * @throws {RangeError} a prefix that is empty or holds a brace, or a `ttl` that is not a whole number from 500 on
 * @example
 * const cluster = redisCluster(redis, { prefix: "mta" }); // redis: a client, as `new Redis(url)` of ioredis makes it
 * const shared = createLimiter(parsePolicy("cluster_server_max_outbound_connections = 500"), { cluster });
 */
export function redisCluster(client: RedisClient, options: RedisClusterOptions = {}): Cluster {
  const {
    prefix = "outbound-limiter",
    ttl = 15_000,
    whenDown = "refuse",
    isNew = false,
    watchdog = true,
    ...others
  } = options;
  for (const name of Object.keys(others)) throw new TypeError(`Unknown redisCluster option ${name}`);
  if (typeof prefix !== "string") throw new TypeError("redisCluster option prefix must be a string");
  if (prefix === "" || /[{}]/.test(prefix)) {
    throw new RangeError(`redisCluster option prefix must be a name without braces, not ${JSON.stringify(prefix)}`);
  }
  if (!Number.isInteger(ttl) || ttl < 500) {
    throw new RangeError(`redisCluster option ttl must be a whole number of milliseconds from 500 on, not ${ttl}`);
  }
  if (!["refuse", "share", "admit"].includes(whenDown)) {
    throw new TypeError('redisCluster option whenDown must be "refuse", "share" or "admit"');
  }
  for (const [name, value] of Object.entries({ isNew, watchdog })) {
    if (typeof value !== "boolean") throw new TypeError(`redisCluster option ${name} must be true or false`);
  }
  return makeCluster("redis", new RedisEngine(client, { prefix, ttl, isNew }), { whenDown, watchdog });
}
