// A process that sends: it has a limiter of the cluster, opens a connection for each lease, and does to itself what it is
// told. Argument: its options, as JSON.

import { once } from "node:events";
import { connect } from "node:net";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { createLimiter, isLimiterError, type Lease, type Limiter, parsePolicy, type Target } from "../../src/index.js";
import { type RedisClusterOptions, redisCluster } from "../../src/redis.js";
import { LIBRARIES } from "../redis/libraries.js";

/** From, and up to, in milliseconds. */
export type Range = readonly [from: number, to: number];

export interface SenderOptions {
  readonly name: string;
  /** Port of the receiver. */
  readonly receiver: number;
  /** Of the engine: one, or the nodes of a cluster. */
  readonly urls: readonly string[];
  readonly library: string;
  readonly cluster: RedisClusterOptions;
  readonly policy: string;
  /** Where its connections go, at random. */
  readonly targets: readonly Target[];
  /** So many connections at one time, or waits for one. */
  readonly flight: number;
  /** One connection to each target at a time, held until the end; besides `flight`. */
  readonly keep: readonly Target[];
  readonly hold: Range;
  /** Every fifth connection is held for so long. */
  readonly longHold: Range;
  /** After a connection. */
  readonly pause: Range;
  /** Of `acquire`. */
  readonly timeout: number | undefined;
}

/** Since it began. */
export interface Counts {
  granted: number;
  /** By code of the error. */
  refused: Record<string, number>;
  /** Connections that it ended because its lease was lost. */
  lost: number;
  /** Connections open, or about to be. */
  open: number;
  /** States of the engine, each time one began. */
  states: string[];
  /** In milliseconds, of each lease; at most 10,000. */
  waits: number[];
}

export type SenderCommand =
  | { readonly do: "block"; readonly ms: number }
  /** The wall clock, from now on, by so many milliseconds from what it is. */
  | { readonly do: "clock"; readonly by: number }
  | { readonly do: "policy"; readonly policy: string }
  /** Ends its connections, and then itself. */
  | { readonly do: "stop" }
  /** At once, and without a word. */
  | { readonly do: "exit" };

export type SenderMessage = { readonly counts: Counts } | { readonly done: "ready" | "policy" };

const options = JSON.parse(String(process.argv[2])) as SenderOptions;
const counts: Counts = { granted: 0, refused: {}, lost: 0, open: 0, states: [], waits: [] };
const stopping = new AbortController();
const tell = (message: SenderMessage): void => void process.send?.(message);
const between = ([from, to]: Range): number => from + Math.random() * (to - from);

async function openClient(): Promise<object> {
  const [url] = options.urls;
  // As most do: it connects by itself, and is used at once.
  if (options.library === "ioredis 5" && options.urls.length === 1) {
    return new Redis(String(url)).on("error", () => {});
  }
  const library = LIBRARIES.find(({ name }) => name === options.library);
  if (library === undefined) throw new Error(`no library ${options.library}`);
  const opened = await (options.urls.length > 1 ? library.openCluster(options.urls) : library.open(String(url)));
  return opened.client;
}

/** Opens a connection, and closes it after that time, or when its lease is lost. */
async function converse(lease: Lease, { domain, host }: Target, time: number): Promise<void> {
  counts.open++;
  const socket = connect({ port: options.receiver, host: "127.0.0.1" });
  const lose = (): void => {
    counts.lost++;
    socket.destroy();
  };
  const quit = (): void => {
    if (!socket.writableEnded) socket.end("QUIT\n");
  };
  const timer = Number.isFinite(time) ? setTimeout(quit, time) : undefined;
  lease.lost.addEventListener("abort", lose);
  stopping.signal.addEventListener("abort", quit);
  socket.on("error", () => {});
  socket.write(`${[options.name, domain, host].filter((word) => word !== undefined).join(" ")}\n`);
  socket.resume();
  // Not by `once`, which gives up at an error: the slots are in use until the socket is closed.
  await new Promise((resolve) => socket.once("close", resolve));
  clearTimeout(timer);
  stopping.signal.removeEventListener("abort", quit);
  lease.lost.removeEventListener("abort", lose);
  lease.release();
  counts.open--;
}

async function send(limiter: Limiter, target: Target, time: number): Promise<void> {
  try {
    const lease = await limiter.acquire(target, { timeout: options.timeout, signal: stopping.signal });
    counts.granted++;
    if (counts.waits.length < 10_000) counts.waits.push(lease.waited);
    await converse(lease, target, time);
  } catch (error) {
    if (stopping.signal.aborted) return;
    if (!isLimiterError(error)) throw error;
    counts.refused[error.code] = (counts.refused[error.code] ?? 0) + 1;
    // Thousands that try again at once would leave no time for anything else.
    await sleep(between([20, 80]) * (1 + options.keep.length / 50));
  }
}

async function sendOn(limiter: Limiter, next: () => Target): Promise<void> {
  for (let round = 0; !stopping.signal.aborted; round++) {
    await send(limiter, next(), between(round % 5 === 4 ? options.longHold : options.hold));
    await sleep(between(options.pause), undefined, { signal: stopping.signal }).catch(() => {});
  }
}

async function keep(limiter: Limiter, target: Target): Promise<void> {
  while (!stopping.signal.aborted) await send(limiter, target, Number.POSITIVE_INFINITY);
}

const realNow = Date.now;
function obey(limiter: Limiter, command: SenderCommand): void {
  switch (command.do) {
    case "block": {
      const end = performance.now() + command.ms;
      while (performance.now() < end);
      break;
    }
    case "clock":
      Date.now = () => realNow() + command.by;
      break;
    case "policy":
      limiter.update(parsePolicy(command.policy));
      tell({ done: "policy" });
      break;
    case "stop":
      stopping.abort();
      break;
    case "exit":
      process.exit();
  }
}

process.once("disconnect", () => process.exit());
const client = await openClient();
const limiter = createLimiter(parsePolicy(options.policy), {
  cluster: redisCluster(client, options.cluster),
  observer: { cluster: ({ state }) => void counts.states.push(state) },
});
process.on("message", (command: SenderCommand) => obey(limiter, command));
const telling = setInterval(() => tell({ counts }), 50);
tell({ done: "ready" });

const { flight, targets } = options;
const loops = Array.from({ length: flight }, () =>
  sendOn(limiter, () => targets[Math.floor(Math.random() * targets.length)] as Target),
);
await Promise.all([...loops, ...options.keep.map((target) => keep(limiter, target))]);
if (loops.length + options.keep.length === 0) await once(stopping.signal, "abort");
await limiter.close();
clearInterval(telling);
process.send?.({ counts }, () => process.exit());
