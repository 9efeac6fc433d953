// Who gets the slots that many processes want, and what else has to hold while nothing fails: limits that change, sets of
// several counters, very many counters, an engine of three nodes.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeServer, type RedisServer, startCluster, startRedis } from "../redis/server.js";
import { startProxy } from "./proxy.js";
import { buildPrograms, Fleet, type FleetOptions, note, type Programs, type Sender, sum, TTL } from "./rig.js";

describeServer("a fleet that shares", () => {
  let programs: Programs;
  let redis: RedisServer;
  beforeAll(async () => {
    programs = await buildPrograms();
    redis = await startRedis();
  });
  afterAll(async () => {
    await redis[Symbol.asyncDispose]();
    programs[Symbol.dispose]();
  });

  let fleets = 0;
  async function fleetOf(
    options: Partial<FleetOptions> & Pick<FleetOptions, "policy" | "limits">,
    { ttl }: { ttl: number } = { ttl: TTL },
  ): Promise<Fleet> {
    return Fleet.start(programs, {
      url: redis.url,
      cluster: { prefix: `fair-${fleets++}`, isNew: true, ttl },
      ...options,
    });
  }
  const inAll = (limit: number): Pick<FleetOptions, "policy" | "limits"> => ({
    policy: `cluster_server_max_outbound_connections = ${limit}`,
    limits: { "*": limit },
  });

  it("limit 3 over 10 processes: the same for each, within 10 %, and the slots in use", async () => {
    await using fleet = await fleetOf({ ...inAll(3), hold: [60, 60], longHold: [60, 60], pause: [0, 0] });
    await fleet.add(10);
    await fleet.until(({ bySender }) => Object.keys(bySender).length === 10);
    const from = fleet.senders.map(({ counts }) => counts.waits.length);
    await fleet.mark();
    const { used, bySender, connections } = await fleet.until((report) => report.connections >= 400, 40_000);
    const shares = Object.values(bySender).map((count) => (count * 10) / connections);
    const waits = fleet.senders.flatMap(({ counts }, index) => counts.waits.slice(from[index])).sort((a, b) => a - b);
    const [p50, p99] = [0.5, 0.99].map((part) => Number(waits[Math.floor(waits.length * part)]));
    const { violations } = await fleet.stop();
    note("limit 3 over 10 processes", {
      connections,
      shares: [Math.min(...shares), Math.max(...shares)],
      used,
      p50,
      p99,
      violations: violations.length,
    });
    expect(violations).toEqual([]);
    expect(shares).toHaveLength(10);
    expect(Math.min(...shares)).toBeGreaterThan(0.9);
    expect(Math.max(...shares)).toBeLessThan(1.1);
  });

  it("a flood from one process does not starve single requests of another", async () => {
    await using fleet = await fleetOf({ ...inAll(4), hold: [5, 15], longHold: [5, 15], pause: [0, 0] });
    await fleet.add(1, { flight: 300 });
    await fleet.until(4);
    const [single] = (await fleet.add(1, { flight: 1 })) as [Sender];
    await fleet.mark();
    await fleet.until((report) => report.connections >= 400);
    const [flood, alone] = [fleet.senders[0] as Sender, single].map(({ counts }) => {
      const waits = counts.waits.toSorted((x, y) => x - y);
      return Number(waits[Math.floor(waits.length / 2)]);
    }) as [number, number];
    const { violations, connections } = await fleet.stop();
    note("flood beside single requests", { connections, waits: [flood, alone], violations: violations.length });
    expect(violations).toEqual([]);
    // In turn it waits for the next slot or two. Behind the flood it would wait as long as those do.
    expect(alone).toBeLessThan(flood / 4);
  });

  it("a limit that is lowered while more is held, and raised again", async () => {
    await using fleet = await fleetOf({ ...inAll(8), longHold: [500, 1_500] });
    await fleet.add(3);
    await fleet.until(8);
    for (const limit of [3, 8, 2]) {
      const { policy, limits } = inAll(limit);
      if (limit === 8) await fleet.limit(limits);
      await Promise.all(fleet.senders.map(async (sender) => sender.do({ do: "policy", policy })));
      // What is held stays; from now on nobody comes on top of it.
      if (limit < 8) await fleet.limit(limits);
      await fleet.until(limit);
      await sleep(500);
    }
    const { violations, connections, cut } = await fleet.stop();
    note("limit lowered while held", { connections, violations: violations.length, cut });
    expect({ violations, cut }).toEqual({ violations: [], cut: 0 });
  });

  it("sets that need each other's counters: all are served, none over", async () => {
    const domains = ["a.example", "b.example"];
    const hosts = ["mx1.example", "mx2.example"];
    const stanza = (kind: string) => (name: string) =>
      `${kind} "${name}" { cluster_scope_max_outbound_connections = 1 }`;
    await using fleet = await fleetOf({
      policy: [...domains.map(stanza("domain")), ...hosts.map(stanza("host"))].join("\n"),
      limits: Object.fromEntries([...domains, ...hosts].map((name) => [name, 1])),
      hold: [1, 10],
      longHold: [1, 20],
      pause: [0, 0],
    });
    const crossing = domains.flatMap((domain) => hosts.map((host) => ({ domain, host })));
    const senders = await Promise.all(
      crossing.map(async (target) => (await fleet.add(1, { targets: [target], flight: 2 }))[0] as Sender),
    );
    const { connections, violations, bySender } = await fleet.until(
      (report) => senders.every(({ name }) => (report.bySender[name] ?? 0) >= 30),
      30_000,
    );
    note("sets that need each other's counters", { connections, bySender, violations: violations.length });
    await fleet.stop();
    expect(violations).toEqual([]);
  });

  const many = Array.from({ length: 2_500 }, (_, index) => ({ domain: `d${index}.example` }));
  const eachOne = {
    policy: "cluster_max_outbound_connections = 1",
    limits: Object.fromEntries(many.map(({ domain }) => [domain, 1])),
    flight: 0,
  };

  it("more than 2,000 counters of one process: stated anew, and given back when it dies", async () => {
    await using fleet = await fleetOf(eachOne);
    const [holding] = (await fleet.add(1, { keep: many })) as [Sender];
    await fleet.until(many.length, 30_000);
    const [waiting] = (await fleet.add(1, { keep: many })) as [Sender];
    // One that knows of no epoch yet would be believed that the name space is new.
    await fleet.until(() => waiting.counts.states.includes("up"));
    await redis.command("FLUSHALL");
    await sleep(2 * TTL);
    const before = await fleet.report();
    expect(before.open["*"]).toBe(many.length);
    holding.signal("SIGKILL");
    await fleet.until(({ open, connections }) => connections > many.length && open["*"] === many.length, 30_000);
    const { violations, connections } = await fleet.report();
    note("2,500 counters", { connections, violations: violations.length });
    expect(violations).toEqual([]);
  });

  it("more than 2,000 counters, and an answer that is lost: all of them are still held", async () => {
    await using proxy = await startProxy(redis.port);
    // Nothing may be lost: saying all of it anew, five times, takes some time on a busy machine.
    await using fleet = await fleetOf(eachOne, { ttl: 3 * TTL });
    const [holding] = (await fleet.add(1, { keep: many, url: proxy.url })) as [Sender];
    await fleet.until(many.length, 30_000);
    await fleet.add(1, { keep: many });
    await sleep(TTL / 2);
    for (let cuts = 1; cuts <= 5; cuts++) {
      proxy.faults.cutAnswers = 1;
      while (proxy.done.cut < cuts) await sleep(1);
      proxy.faults.cutAnswers = 0;
      await sleep(TTL / 2);
    }
    const { violations, connections, cut } = await fleet.report();
    note("2,500 counters, lost answers", { connections, violations: violations.length, cut });
    expect(violations).toEqual([]);
    expect(holding.counts.lost).toBe(0);
  });

  it("a Redis Cluster of three nodes, and kill -9", async () => {
    await using nodes = await startCluster();
    const url = nodes.nodes.map((node) => node.url);
    await using fleet = await fleetOf({ ...inAll(6), url });
    await fleet.add(2);
    await fleet.add(1, { library: "redis 6" });
    await fleet.until(6);
    await sleep(500);
    fleet.senders[0]?.signal("SIGKILL");
    await fleet.add(1);
    await fleet.until(6);
    await fleet.mark();
    const { violations, connections } = await fleet.until((report) => report.connections >= 200);
    await fleet.stop();
    note("Redis Cluster of three nodes", { connections, violations: violations.length });
    expect(violations).toEqual([]);
    expect(sum(fleet.senders.slice(1), ({ lost }) => lost)).toBe(0);
  });
});
