// Real Haraka sends through the plugin of bench/haraka to servers that count by themselves.

import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { loadPolicy } from "../../src/index.js";
import { builtCommand } from "../cli/built.js";
import { describeServer, startRedis } from "../redis/server.js";
import { type Behaviour, type Fault, type Phase, type Receiver, startReceiver, type Total } from "../smtp/receiver.js";
import { type Haraka, type HarakaOptions, startHaraka, to } from "./haraka.js";

const command = builtCommand();
const haraka = (options: Omit<HarakaOptions, "limiter">): Promise<Haraka> =>
  startHaraka({ limiter: join(command.path, "../.."), ...options });

const rcpts = (domain: string, many: number): string[] => Array.from({ length: many }, (_, i) => `to-${i}@${domain}`);
const until = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: 30_000, interval: 100 });

/** So much mail is delivered or given up, no connection is open, and nobody holds or waits for a slot. */
async function untilIdle(sender: Haraka, receivers: readonly Receiver[], mail: number): Promise<void> {
  await until(async () => {
    const { bounced, queue, snapshot, leases } = await sender.state();
    const ended = receivers.reduce((sum, { took }) => sum + took.length, bounced.length);
    expect(ended).toBeGreaterThanOrEqual(mail);
    expect({ queue, queued: sender.queued }).toEqual({ queue: "0/0/0", queued: [] });
    expect(leases).toEqual([]);
    expect(snapshot).toMatchObject({ leases: 0, waiting: 0, counters: [] });
    for (const { open } of receivers) expect([...open.values()].filter((count) => count > 0)).toEqual([]);
  });
}

describe("Haraka", () => {
  it("opens as many connections as each limit admits, and no more", async () => {
    const [plain, bulk] = ["127.0.0.1", "127.0.3.1"];
    const total: Total = { open: 0, peak: 0 };
    const look = { look: 20 };
    await using orange = await startReceiver("127.0.2.1", look, total);
    await using gmail = await startReceiver("127.0.2.2", look, total);
    await using shops = await startReceiver("127.0.2.3", look, total);
    await using first = await startReceiver("127.0.2.4", look, total);
    await using second = await startReceiver("127.0.2.5", look, total);
    await using secure = await startReceiver("127.0.2.6", { ...look, starttls: true }, total);
    const shop = [1, 2, 3, 4, 5, 6].map((i) => `shop-${i}.example`);
    await using sender = await haraka({
      policy: `
        max_outbound_connections = 4
        server_max_outbound_connections = 14
        server_reserve_outbound_connections = 0
        domain "/^(wanadoo|orange)\\.fr$/" { scope_max_outbound_connections = 3 }
        host "mx.hosting.example" { max_outbound_connections = 2 }
        host "mx1.two.example" { max_outbound_connections = 1 }
        host "mx2.two.example" { max_outbound_connections = 2 }
        binding_group "bulk" { binding "bulk-1" { domain "gmail.com" { max_outbound_connections = 5 } } }`,
      settings: `wait = 30\n[bindings]\n${bulk} = bulk-1`,
      sources: { bulk },
      hosts: {
        "wanadoo.fr": [to(orange)],
        "orange.fr": [to(orange)],
        "gmail.com": [to(gmail)],
        ...Object.fromEntries(shop.map((domain) => [domain, [to(shops, { from_dns: "mx.hosting.example" })]])),
        "two.example": [to(first, { from_dns: "mx1.two.example" }), to(second, { from_dns: "mx2.two.example" })],
        "secure.example": [to(secure)],
      },
    });
    const plainRcpts = [
      ...[...rcpts("wanadoo.fr", 25), ...rcpts("orange.fr", 25), ...rcpts("gmail.com", 50)],
      ...[...shop.flatMap((domain) => rcpts(domain, 8)), ...rcpts("two.example", 40), ...rcpts("secure.example", 40)],
    ];
    const bulkRcpts = rcpts("gmail.com", 60);
    sender.send("us@sender.example", plainRcpts);
    sender.send("bulk@sender.example", bulkRcpts);

    const receivers = [orange, gmail, shops, first, second, secure];
    await untilIdle(sender, receivers, plainRcpts.length + bulkRcpts.length);
    expect(receivers.flatMap(({ took }) => took).sort()).toEqual([...plainRcpts, ...bulkRcpts].sort());
    expect(await sender.state()).toMatchObject({ bounced: [], deferred: 0 });
    const peak = Object.fromEntries(
      Object.entries({ orange, shops, first, second, secure }).map(([name, receiver]) => [
        name,
        receiver.peak.get(plain),
      ]),
    );
    expect(peak).toEqual({ orange: 3, shops: 2, first: 1, second: 2, secure: 4 });
    expect(Object.fromEntries(gmail.peak)).toEqual({ [plain]: 4, [bulk]: 5 });
    expect(total.peak).toBe(14);
    expect(secure.secured).toBe(40);
  });

  it("has its slots back from receivers that break off, refuse, or stall in any phase", async () => {
    const phases: readonly Phase[] = ["greeting", "ehlo", "starttls", "mail", "rcpt", "data", "dot", "quit"];
    const faults: { phase: Phase; fault: Fault; starttls?: boolean }[] = phases.flatMap((phase) => [
      ...(["stall", "drop", "reset"] as const).map((fault) => ({ phase, fault })),
      ...(phase === "ehlo" || phase === "quit" ? [] : [{ phase, fault: "451 4.3.2 Later" as const }]),
    ]);
    const refusals: typeof faults = [
      { phase: "greeting", fault: "554 5.3.2 No" },
      { phase: "mail", fault: "550 5.7.1 No" },
      { phase: "rcpt", fault: "550 5.1.1 No" },
      { phase: "data", fault: "554 5.6.0 No" },
      { phase: "quit", fault: "221 Bye, but not now" },
    ];
    await using good = await startReceiver("127.0.2.1");
    const hosts: Record<string, ReturnType<typeof to>[]> = {};
    const bad: Receiver[] = [];
    const underTls = (["mail", "dot", "quit"] as const).flatMap((phase) =>
      (["stall", "drop"] as const).map((fault) => ({ phase, fault, starttls: true })),
    );
    for (const { phase, fault, starttls = phase === "starttls" } of [...faults, ...refusals, ...underTls]) {
      const behaviour: Behaviour = { starttls, fault: { phase, fault, times: 3 } };
      const receiver = await startReceiver("127.0.2.2", behaviour);
      onTestFinished(() => receiver[Symbol.asyncDispose]());
      bad.push(receiver);
      hosts[`${phase}-${fault.split(" ")[0]}${starttls ? "-tls" : ""}.example`] = [
        to(receiver),
        to(good, { priority: 10 }),
      ];
    }
    const closed = await startReceiver("127.0.2.3");
    await closed[Symbol.asyncDispose]();
    hosts["closed.example"] = [to(closed), to(good, { priority: 10 })];
    hosts["no-port.example"] = [{ exchange: "127.0.2.3", port: 70_000 }, to(good, { priority: 10 })];
    hosts["nowhere.example"] = [to(closed)]; // given up after the second attempt
    const domains = Object.keys(hosts);

    await using sender = await haraka({
      policy: "max_outbound_connections = 2",
      outbound: "connect_timeout = 1\ntemp_fail_intervals = 5s*1",
      hosts,
    });
    sender.send(
      "us@sender.example",
      domains.flatMap((domain) => rcpts(domain, 6)),
    );
    await untilIdle(sender, [good, ...bad], 6 * domains.length);
    for (const [i, { faults }] of bad.entries()) expect({ domain: domains[i], faults }).toMatchObject({ faults: 3 });

    const { bounced } = await sender.state();
    const ended = [...[good, ...bad].flatMap(({ took }) => took), ...bounced.map(({ rcpt }) => rcpt)];
    expect(ended.sort()).toEqual(domains.flatMap((domain) => rcpts(domain, 6)).sort());
  });

  it("puts mail back that waits too long, as often as it takes, and follows the policy", async () => {
    let letGo = (): void => {};
    const look = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    await using receiver = await startReceiver("127.0.2.1", { look });
    await using sender = await haraka({
      policy: "max_outbound_connections = 1",
      settings: "wait = 1\nretry = 1",
      outbound: "temp_fail_intervals = none", // one failed attempt, and it bounces
      hosts: { "slow.example": [to(receiver)] },
    });
    sender.send("us@sender.example", rcpts("slow.example", 4));
    await until(() => expect(sender.log.split("tried again in 1 s").length - 1).toBeGreaterThan(6));
    expect(receiver.open.get("127.0.0.1")).toBe(1);

    sender.writePolicy("max_outbound_connections = nonsense");
    await until(() => expect(sender.log).toContain("the policy before stays in force"));
    sender.writePolicy("max_outbound_connections = 3");
    await until(() => expect(receiver.open.get("127.0.0.1")).toBe(3));
    letGo();
    await untilIdle(sender, [receiver], 4);
    expect(receiver.peak.get("127.0.0.1")).toBe(3);
    expect([...receiver.took].sort()).toEqual(rcpts("slow.example", 4));
    expect(await sender.state()).toMatchObject({ bounced: [], deferred: 0 });
  });

  it("has an example of a policy that is right", async () => {
    const { warnings } = await loadPolicy(join(import.meta.dirname, "../../bench/haraka/config/outbound_limiter.conf"));
    expect(warnings).toEqual([]);
  });

  it("does not start with a policy that has mistakes", async () => {
    await expect(haraka({ policy: "max_outbund_connections = 1", hosts: {} })).rejects.toThrow(
      "unknown option `max_outbund_connections`",
    );
  });
});

describeServer("Haraka with limits of a cluster", () => {
  it("closes its connections when their leases are lost", async () => {
    let letGo = (): void => {};
    const look = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    await using redis = await startRedis();
    await using receiver = await startReceiver("127.0.2.1", { look });
    await using sender = await haraka({
      policy: "cluster_server_max_outbound_connections = 2",
      settings: `wait = 10\nretry = 1\n[redis]\nurl = ${redis.url}\nttl = 1000`,
      outbound: "temp_fail_intervals = 5s*5",
      hosts: { "slow.example": [to(receiver)] },
    });
    sender.send("us@sender.example", rcpts("slow.example", 4));
    await until(() => expect(receiver.open.get("127.0.0.1")).toBe(2));
    redis.freeze();
    await until(() => expect(receiver.open.get("127.0.0.1")).toBe(0));
    redis.thaw();
    letGo();
    await untilIdle(sender, [receiver], 4);
    expect([...new Set(receiver.took)].sort()).toEqual(rcpts("slow.example", 4));
    expect(await sender.state()).toMatchObject({ bounced: [] });
  });
});
