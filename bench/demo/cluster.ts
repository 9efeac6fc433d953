// cluster.ts: `npm run demo -- --cluster`. Four sender processes with one policy, one of them killed halfway, and servers
// that count for themselves.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type ClusterMember, createLimiter, loadPolicy, type Policy } from "../../src/index.js";
import { redisCluster } from "../../src/redis.js";
import type { Orders, Report } from "./cluster-sender.js";
import { type Receivers, type Rule, type Site, startReceivers } from "./receivers.js";
import { startRedis } from "./redis.js";
import { bold, type ClusterRow, print, printClusterTable, printClusterVerdict, withProgress } from "./report.js";

const prefix = "demo";
const ttl = 5000;
/** Of a ttl there are five. */
const heartbeat = ttl / 5;

// Written down by hand, as in receivers.ts: what the servers take, whoever calls.
const from = ["bulk-1", "bulk-2"];
const shops = ["shop-1.example", "shop-2.example"];
const sites: readonly Site[] = [
  {
    host: "smtp-in.orange.fr",
    domains: ["wanadoo.fr", "orange.fr"],
    rules: [{ label: "wanadoo.fr + orange.fr, all together", from, limit: 3, together: true }],
  },
  { host: "mx.gmail.com", domains: ["gmail.com"], rules: [{ label: "gmail.com, each binding", from, limit: 6 }] },
  { host: "mx.hosting.example", domains: shops, rules: [{ label: "host of 2 shops, each binding", from, limit: 4 }] },
];
const inAll: Rule = { label: "everything together", from, limit: 20, together: true };

/** A sender process, and what it told last. */
interface Sender {
  readonly name: string;
  readonly process: ChildProcess;
  readonly exit: Promise<unknown>;
  report: Report;
  killed: boolean;
}

/** @returns whether no limit was exceeded, and the slots of the sender that was killed came back in time */
export async function clusterDemo(policyFile: string, signal: AbortSignal): Promise<boolean> {
  const policy = await loadPolicy(policyFile);
  const redis = await startRedis();
  const receivers = await startReceivers(sites, inAll);
  const senders: Sender[] = [];
  try {
    print(bold(`Four senders, one policy: ${policyFile}, over ${redis.program}, ttl ${ttl / 1000} s`));
    const orders: Orders = { policy: policyFile, redis: redis.port, prefix, ttl, routes: routesTo(receivers) };
    for (let number = 1; number <= 4; number++) senders.push(startSender(`sender ${number}`, orders));
    const members = async () => redisCluster(redis.client, { prefix, ttl }).members();
    const { before, faults } = await sendAndKill(senders, receivers, members, signal);
    await Promise.all(senders.map(stopSender));
    const rows = makeRows(policy, receivers, before);
    printClusterTable(rows);
    return printClusterVerdict(rows, faults);
  } finally {
    for (const sender of senders) sender.process.kill("SIGKILL");
    await Promise.all(senders.map(({ exit }) => exit));
    await receivers.close();
    await redis.close();
  }
}

/** Returns the most at once of each tally before the kill, and what was not as it should be. */
async function sendAndKill(
  senders: readonly Sender[],
  receivers: Receivers,
  members: () => Promise<readonly ClusterMember[]>,
  signal: AbortSignal,
): Promise<{ readonly before: readonly number[]; readonly faults: readonly string[] }> {
  const faults: string[] = [];
  const victim = senders.at(-1)!;
  const show = async (work: Promise<void>) => withProgress(() => describe(senders, receivers), work);
  const isFull = () => senders.every(isAlive) && receivers.open >= inAll.limit;
  const allHaveBegun = () => isFull() && senders.every(({ report }) => report.delivered > 0);

  const begin = async () => {
    if (!(await until(allHaveBegun, 60_000, signal))) faults.push(`${inAll.limit} connections were never open`);
    await pause(2500, undefined, { signal });
    await until(() => victim.report.open > 1, 10_000, signal);
  };
  await show(begin());
  const before = takePeaks(receivers);

  const killed = performance.now();
  victim.killed = victim.process.kill("SIGKILL");
  await victim.exit;
  const member = (await members()).find(({ label }) => label.endsWith(`:${victim.process.pid}`));
  // Each of its connections has a slot of the limit for all, and others besides.
  const held = Math.max(0, ...Object.values(member?.holds ?? {}));
  print(`\n${victim.name} killed with -9: it held ${held} of the ${inAll.limit} slots.`);
  if (held === 0) faults.push(`${victim.name} held no slot`);

  let after = Number.POSITIVE_INFINITY;
  const comeBack = async () => {
    await until(() => receivers.open <= inAll.limit - held, 1000, signal); // the servers have seen its connections end
    if (await until(isFull, 3 * ttl, signal)) after = performance.now() - killed;
  };
  await show(comeBack());
  const seconds = `${(after / 1000).toFixed(1)} s, where ttl + heartbeat are ${(ttl + heartbeat) / 1000} s`;
  if (after <= ttl + heartbeat) print(`Its slots were in use again after ${seconds}.\n`);
  else if (after < Number.POSITIVE_INFINITY) faults.push(`its slots were in use again after ${seconds}`);
  else faults.push("its slots did not come back");
  await show(pause(1500, undefined, { signal }));
  return { before, faults };
}

function routesTo(receivers: Receivers): Orders["routes"] {
  const domains = sites.flatMap((site) => site.domains);
  return from.flatMap((binding) => domains.map((domain) => ({ binding, domain, ...receivers.mx(domain) })));
}

function startSender(name: string, orders: Orders): Sender {
  const program = fileURLToPath(new URL("cluster-sender.ts", import.meta.url));
  const child = fork(program, [JSON.stringify(orders)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const sender: Sender = {
    name,
    process: child,
    exit: once(child, "exit"),
    report: { delivered: 0, open: 0 },
    killed: false,
  };
  child.on("message", (report) => {
    sender.report = report as Report;
  });
  return sender;
}

/** @throws one that was not killed has ended */
function isAlive({ name, process: { exitCode, signalCode }, killed }: Sender): boolean {
  const status = exitCode ?? signalCode;
  if (!killed && status !== null) throw new Error(`${name} ended with ${status}`);
  return true;
}

async function stopSender(sender: Sender): Promise<void> {
  const { process, exit, killed } = sender;
  if (killed) return;
  process.send("stop");
  await exit;
  if (process.exitCode !== 0) isAlive(sender);
}

function describe(senders: readonly Sender[], { open }: Receivers): string {
  const each = senders.map(({ report, killed }) => (killed ? "killed" : report.open)).join(", ");
  const delivered = senders.reduce((sum, { report }) => sum + report.delivered, 0);
  return `  ${open} connections open, by sender ${each}; ${delivered} messages delivered`;
}

/** Whether `condition` came to hold in time. */
async function until(condition: () => boolean, patience: number, signal: AbortSignal): Promise<boolean> {
  const end = performance.now() + patience;
  while (!condition()) {
    if (performance.now() > end) return false;
    await pause(10, undefined, { signal });
  }
  return true;
}

/** Most at once of each tally until now; from now on they count anew. */
function takePeaks({ tallies }: Receivers): number[] {
  return tallies.map((tally) => {
    const { peak } = tally;
    tally.peak = 0;
    return peak;
  });
}

function makeRows(policy: Policy, { tallies }: Receivers, before: readonly number[]): ClusterRow[] {
  const limiter = createLimiter(policy);
  return tallies.map((tally, i) => {
    const inAll = i === tallies.length - 1;
    const limits = limiter.explain(tally.example).limits.filter(({ reach }) => reach === "cluster");
    const limit = limits.find(({ option }) => (option === "cluster_server_max_outbound_connections") === inAll);
    return { policy: limit, tally, before: before[i] ?? 0 };
  });
}
