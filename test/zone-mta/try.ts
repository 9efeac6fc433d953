// ZoneMTA's own sender, plugin handler and mx-connect with the plugin of bench/zone-mta, against servers that count by
// themselves. Its queue, which needs MongoDB, is a list here. Not a test of the suite: zone-mta brings 260 packages.
//
//   npm run build && npx tsx test/zone-mta/try.ts <a folder in which `npm install zone-mta` was run>

import { deepEqual, equal, ok } from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Limiter } from "../../src/index.js";
import { startReceiver, type Total } from "../smtp/receiver.js";

const ROOT = join(import.meta.dirname, "../..");
const installed = resolve(process.argv[2] ?? ".");
const zoneMta = join(installed, "node_modules/zone-mta");
process.env["NODE_CONFIG_DIR"] = join(zoneMta, "config");
const load = createRequire(join(zoneMta, "package.json"));

const folder = mkdtempSync(join(tmpdir(), "outbound-limiter-zone-mta-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
writeFileSync(join(folder, "package.json"), "{}");
cpSync(join(ROOT, "bench/zone-mta/plugins"), join(folder, "plugins"), { recursive: true });
cpSync(join(ROOT, "package.json"), join(folder, "node_modules/outbound-limiter/package.json"));
symlinkSync(join(ROOT, "dist"), join(folder, "node_modules/outbound-limiter/dist"), "junction");
const policy = join(folder, "outbound-limiter.conf");
writeFileSync(
  policy,
  `max_outbound_connections = 4
   server_max_outbound_connections = 10
   server_reserve_outbound_connections = 0
   domain "/^(wanadoo|orange)\\.fr$/" { scope_max_outbound_connections = 3 }
   host "127.0.4.3" { max_outbound_connections = 2 }`,
);

const config = load("wild-config");
Object.assign(config, {
  pluginsPath: join(folder, "plugins"),
  plugins: { "outbound-limiter": { enabled: "sender", policy, wait: 0.1, retry: 0.2 } },
});
config.queue.deferTimes = Array.from({ length: 17 }, () => 200); // what ZoneMTA does after a failed attempt
load("npmlog").level = process.env["LOG"] ?? "silent";
const plugins = load("./lib/plugins");
plugins.init("sender");
const Sender = load("./lib/sender");
const ConnectionPool = load("./lib/connection-pool");
const { SendingZone } = load("./lib/sending-zone");

interface Delivery {
  id: string;
  due: number;
  [field: string]: unknown;
}
interface Command {
  readonly cmd: string;
  readonly [field: string]: unknown;
}

/** What the queue server answers, as lib/queue-server.js and lib/mail-queue.js do. */
class Queue {
  readonly waiting: Delivery[] = [];
  readonly locked = new Map<string, Delivery>();
  readonly rejected: unknown[] = [];
  readonly putOff: Command[] = [];
  readonly cache = new Map<unknown, unknown>();
  deferred = 0;
  reused = 0;

  answer(command: Command, callback: (error: Error | null, response?: unknown) => void): void {
    setImmediate(() => callback(null, this.#response(command)));
  }

  #response(command: Command): unknown {
    const { cmd, key } = command;
    if (cmd === "GET") {
      const at = this.waiting.findIndex(({ due }) => due <= Date.now());
      if (at < 0) return false;
      const [delivery] = this.waiting.splice(at, 1) as [Delivery];
      this.locked.set(delivery.id, delivery);
      return JSON.parse(JSON.stringify(delivery));
    }
    if (cmd === "GETCACHE") return this.cache.get(key);
    if (cmd === "SETCACHE") {
      this.putOff.push(command);
      return this.cache.set(key, command["value"]) && true;
    }
    if (command["metric"] === "connReuseCounter") this.reused++;
    const delivery = this.locked.get(String(command["id"]));
    if (cmd === "RELEASE" && delivery !== undefined) {
      if (!(command["status"] as { delivered: boolean }).delivered) this.rejected.push(command);
      return this.locked.delete(delivery.id);
    }
    if (cmd === "DEFER" && delivery !== undefined) {
      this.locked.delete(delivery.id);
      this.deferred++;
      const { count } = (delivery["_deferred"] ?? { count: 0 }) as { count: number };
      Object.assign(delivery, command["updates"], { _deferred: { count: count + 1 } });
      this.waiting.push({ ...delivery, due: Date.now() + Number(command["ttl"]) });
    }
    return true;
  }
}

async function until(what: string, check: () => boolean): Promise<void> {
  for (let i = 0; i < 400 && !check(); i++) await sleep(50);
  ok(check(), what);
}

/** Sends mail to domains, each with its MX addresses in order of preference, over 20 senders. */
async function deliver(port: number, domains: Readonly<Record<string, { hosts: string[]; many: number }>>) {
  const queue = new Queue();
  for (const [domain, { hosts, many }] of Object.entries(domains)) {
    const mx = hosts.map((A, priority) => ({
      priority,
      mx: true,
      exchange: `mx${priority}.${domain}`,
      A: [A],
      AAAA: [],
    }));
    for (let i = 0; i < many; i++) {
      const envelope = { from: "us@sender.example", recipient: `to-${i}@${domain}`, parsedEnvelope: {} };
      const about = { seq: "001", domain, mx, mxPort: port, skipSTS: true, headers: [], bodySize: 6 };
      queue.waiting.push({ ...about, ...envelope, id: `${domain}-${i}`, due: 0, dnsOptions: { ignoreIPv6: true } });
    }
  }
  queue.waiting.sort((a, b) => Number(a.id.split("-").at(-1)) - Number(b.id.split("-").at(-1)));
  const zone = new SendingZone("default", { pool: [{ address: "127.0.0.1", name: "sender.example" }] }, false);
  const command = (asked: string | Command, callback: () => void) =>
    queue.answer(typeof asked === "string" ? { cmd: asked } : asked, callback);
  const bodies = { retrieve: () => Readable.from(["test\r\n"]) };
  const pool = new ConnectionPool(command);
  const senders = Array.from({ length: 20 }, (_, i) => new Sender("test", i, zone, command, bodies, pool));
  await until("all mail is delivered", () => queue.waiting.length + queue.locked.size === 0);
  for (const sender of senders) sender.close();
  return queue;
}

const limiter = (): Limiter => load(join(folder, "plugins/outbound-limiter.js")).limiter;
await new Promise<void>((loaded) => plugins.handler.load(loaded));
equal(plugins.handler.loaded.length, 1, "the plugin is loaded");

const total: Total = { open: 0, peak: 0 };
const orange = await startReceiver("127.0.4.1", { look: 10 }, total);
const { port } = orange;
const gmail = await startReceiver("127.0.4.2", { look: 50, port, starttls: true }, total);
const shops = await startReceiver("127.0.4.3", { look: 10, port }, total);
const sent = {
  "wanadoo.fr": { hosts: [orange.address], many: 30 },
  "orange.fr": { hosts: [orange.address], many: 30 },
  "gmail.com": { hosts: ["127.0.4.9", gmail.address], many: 40 }, // nobody listens at the first
  "shop-1.example": { hosts: [shops.address], many: 15 },
  "shop-2.example": { hosts: [shops.address], many: 15 },
  "shop-3.example": { hosts: [shops.address], many: 15 },
};
const queue = await deliver(port, sent);
const peaks = [orange, gmail, shops].map(({ peak }) => peak.get("127.0.0.1"));
process.stdout.write(
  `peaks ${peaks.join()}, together ${total.peak}; ${queue.deferred} times back into the queue, ` +
    `${queue.reused} times a connection used again\n`,
);
deepEqual(peaks, [3, 4, 2]);
ok(total.peak <= 10);
const took = [orange, gmail, shops].flatMap((receiver) => receiver.took);
deepEqual(inOrder(took), inOrder(Object.entries(sent).flatMap(([domain, { many }]) => recipients(domain, many))));
deepEqual([queue.rejected, queue.putOff], [[], []]);
equal(gmail.secured, 40);
await until("no connection is open, no slot held", () => total.open === 0 && limiter().snapshot().leases === 0);
process.stdout.write("all delivered, nothing held\n");

const faults = (["drop", "reset", "451 4.3.2 Later"] as const).flatMap((fault) =>
  (["greeting", "ehlo", "mail", "rcpt", "data", "dot", "quit"] as const).map((phase) => ({ phase, fault, times: 2 })),
);
const stalls = [{ phase: "quit", fault: "stall", times: 2 } as const]; // in another phase, ZoneMTA waits for minutes
await Promise.all(
  [...faults, ...stalls].map(async (fault) => {
    await using bad = await startReceiver("127.0.4.4", { fault }, total);
    const domain = `${fault.phase}-${fault.fault.split(" ")[0]}.example`;
    const { rejected } = await deliver(bad.port, { [domain]: { hosts: [bad.address], many: 5 } });
    deepEqual({ domain, rejected, took: inOrder(bad.took) }, { domain, rejected: [], took: recipients(domain, 5) });
    await until(`connections to ${domain} are closed`, () => bad.open.get("127.0.0.1") === 0);
  }),
);
await until("no slot is held", () => limiter().snapshot().leases === 0);
process.stdout.write("slots came back after each fault\n");
for (const receiver of [orange, gmail, shops]) await receiver[Symbol.asyncDispose]();
process.exit();

function recipients(domain: string, many: number): string[] {
  return Array.from({ length: many }, (_, i) => `to-${i}@${domain}`);
}

function inOrder(names: readonly string[]): string[] {
  return [...names].sort((a, b) => a.localeCompare(b));
}
