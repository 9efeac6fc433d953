// main.ts: `npm run demo`. The same mail twice, without the limiter and with it, to servers that count for themselves.
// With `--cluster`: see cluster.ts.
import { setMaxListeners } from "node:events";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createLimiter, type LocalLimiter, loadPolicy } from "../../src/index.js";
import { clusterDemo } from "./cluster.js";
import { startReceivers, type Tally } from "./receivers.js";
import { bold, print, printTable, printVerdict, type Row, red, withProgress } from "./report.js";
import { type Gate, limited, type Progress, send, unlimited } from "./sender.js";
import { type Batch, countMessages, makeTraffic, sources } from "./traffic.js";

const stop = new AbortController();
setMaxListeners(0, stop.signal); // every open socket listens

async function main(): Promise<boolean> {
  const { values: options } = parseArgs({
    options: {
      policy: { type: "string" },
      scale: { type: "string", default: "1" }, // 0.5: half the mail
      cluster: { type: "boolean", default: false },
    },
  });
  const ours = new URL(options.cluster ? "cluster.conf" : "policy.conf", import.meta.url);
  const policy = options.policy ?? relative("", fileURLToPath(ours));
  return options.cluster ? clusterDemo(policy, stop.signal) : demo(policy, Number(options.scale));
}

async function demo(policy: string, scale: number): Promise<boolean> {
  const limiter = createLimiter(await loadPolicy(policy));
  const batches = makeTraffic(scale);
  const total = countMessages(batches);
  const domains = new Set(batches.map(({ domain }) => domain));
  print(`${total} messages to ${domains.size} domains from ${sources.size} bindings, one source address each.`);

  const workers = 10;
  print(bold(`\nWithout the limiter: ${workers} workers for each binding and domain`));
  const without = await run(batches, unlimited(workers));

  print(bold(`\nWith the limiter: ${policy}`));
  const gate = limited(limiter, stop.signal);
  let reserveUsed = 0;
  const watched: Gate = async (target) => {
    const release = await gate(target);
    reserveUsed = Math.max(reserveUsed, limiter.snapshot().reserve.inUse);
    return release;
  };
  const busy = { binding: "bulk-1", domain: "orange.fr", host: "smtp-in.orange.fr" };
  const look = setTimeout(() => print(`\n${limiter.explain(busy).toString()}\n`), 2000);
  const withLimiter = await run(batches, watched).finally(() => clearTimeout(look));

  const rows = makeRows(limiter, without, withLimiter, reserveUsed);
  await limiter.close();
  printTable(rows);
  const kept = printVerdict(rows, total, withLimiter.delivered);
  const refused = without.tallies.at(-1)?.refused;
  print(`Without it they refused ${refused} connections, and ${without.deferred} messages were deferred.`);
  return kept;
}

interface Outcome extends Progress {
  readonly tallies: readonly Tally[];
}

async function run(batches: readonly Batch[], gate: Gate): Promise<Outcome> {
  const receivers = await startReceivers();
  const progress: Progress = { delivered: 0, deferred: 0, open: 0, waiting: 0 };
  const describe = () =>
    `  ${progress.delivered} of ${countMessages(batches)} messages delivered, ${progress.deferred} deferred; ` +
    `${progress.open} connections open, ${progress.waiting} waiting`;
  try {
    await withProgress(describe, send(batches, receivers, gate, progress, stop.signal));
  } catch (error) {
    stop.abort(error); // the other connections end as well
    throw error;
  } finally {
    await receivers.close();
  }
  return { ...progress, tallies: receivers.tallies };
}

function makeRows(limiter: LocalLimiter, without: Outcome, withLimiter: Outcome, reserveUsed: number): Row[] {
  const reserve = ` + reserve ${limiter.snapshot().reserve.limit} (by which up to ${reserveUsed} of these came)`;
  return withLimiter.tallies.map((tally, i) => {
    const serverWide = i === withLimiter.tallies.length - 1;
    // Several limits hold for each connection; a row is about the one that is reached first.
    const [policy] = limiter
      .explain(tally.example)
      .limits.filter(({ option }) => (option === "server_max_outbound_connections") === serverWide)
      .sort((a, b) => a.limit - b.limit);
    return { policy, note: serverWide ? reserve : "", without: without.tallies[i]!, limited: tally };
  });
}

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stop.abort(new Error("Interrupted")));
try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  process.exitCode = 1;
  // What ends because of `stop` says no more than that; why it was stopped is the message.
  const reason: unknown = stop.signal.aborted ? stop.signal.reason : error;
  console.error(red(reason instanceof Error ? reason.message : String(reason)));
}
