// cluster-sender.ts: one of the senders of the cluster demo, a process: it sends all it may until it is told to stop.
// Argument: its orders, as JSON.
import { setMaxListeners } from "node:events";
import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { Redis } from "ioredis";
import { createLimiter, isLimiterError, type Lease, loadPolicy, releaseOnClose } from "../../src/index.js";
import { redisCluster } from "../../src/redis.js";
import type { MailHost } from "./receivers.js";
import { sendOver } from "./sender.js";
import { sources } from "./traffic.js";

export interface Orders {
  readonly policy: string;
  /** Port of the Redis. */
  readonly redis: number;
  readonly prefix: string;
  readonly ttl: number;
  readonly routes: readonly Route[];
}
export interface Route extends MailHost {
  readonly binding: string;
  readonly domain: string;
}
/** What it tells, every now and then. */
export interface Report {
  readonly delivered: number;
  /** Connections open. */
  readonly open: number;
}

/** Connections that each route wants at a time. */
const workers = 4;

const orders = JSON.parse(process.argv[2]!) as Orders;
const stop = new AbortController();
setMaxListeners(0, stop.signal);
process.once("message", () => stop.abort());
process.once("disconnect", () => process.exit(1)); // the demo is gone

const redis = new Redis(orders.redis);
redis.on("error", () => {}); // what becomes of connections then is the limiter's to say
const limiter = createLimiter(await loadPolicy(orders.policy), {
  // New: the demo has started this Redis for itself.
  cluster: redisCluster(redis, { prefix: orders.prefix, ttl: orders.ttl, isNew: true }),
});

const progress = { delivered: 0, open: 0 };
const report = () => process.send!(progress satisfies Report);
const reports = setInterval(report, 100);
await Promise.all(orders.routes.flatMap((route) => Array.from({ length: workers }, async () => work(route))));
clearInterval(reports);
report();
await limiter.close();
redis.disconnect();
process.removeAllListeners("disconnect").disconnect();

/** One connection after the other. */
async function work({ binding, domain, host, address, port }: Route): Promise<void> {
  while (!stop.signal.aborted) {
    let lease: Lease | undefined;
    try {
      lease = await limiter.acquire({ binding, domain, host }, { signal: stop.signal });
      const socket = connect({ host: address, port, localAddress: sources.get(binding) });
      releaseOnClose(lease, socket);
      await sendOver(socket, { binding, domain, messages: 10 }, progress);
    } catch (error) {
      if (error === stop.signal.reason) return;
      // No answer from Redis in time, on a busy machine: the mail stays, and is sent a little later.
      if (!isLimiterError(error) && !lease?.lost.aborted) throw error;
      await pause(200);
    }
  }
}
