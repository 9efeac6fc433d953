// Senders that die, stall or stand still while they hold connections: what the receiver counts meanwhile and after that.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeServer, type RedisServer, startRedis } from "../redis/server.js";
import { BEAT, buildPrograms, Fleet, note, type Programs, type Sender, sum, TTL } from "./rig.js";

/** What a busy machine may add to a promise of the engine. */
const SLACK = 1_000;
const five = Array.from({ length: 5 }, (_, index) => ({ domain: `mx-${index}.example` }));

describeServer("senders that fail", () => {
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
  /** A fleet with a name space of its own, whose connections are limited to so many in all. */
  async function fleetOf(limit: number, cluster: { watchdog?: boolean; ttl?: number } = {}): Promise<Fleet> {
    return Fleet.start(programs, {
      url: redis.url,
      policy: `cluster_server_max_outbound_connections = ${limit}`,
      limits: { "*": limit },
      cluster: { prefix: `crash-${fleets++}`, isNew: true, ...cluster },
    });
  }

  it("kill -9 under load: never more connections than the limit, and all slots come back", async () => {
    await using fleet = await fleetOf(6);
    await fleet.add(4);
    await fleet.until(6);
    for (let kills = 0; kills < 8; kills++) {
      await sleep(100);
      fleet.senders.find(({ isAlive }) => isAlive)?.signal("SIGKILL");
      await fleet.add(1);
    }
    const { violations, connections, peak } = await fleet.until(6);
    note("kill -9 under load", { kills: 8, connections, peak, violations: violations.length });
    expect(violations).toEqual([]);
    await fleet.stop();
  });

  it("the slots of a killed process are usable within ttl and a heartbeat", async () => {
    await using fleet = await fleetOf(5);
    const [victim] = (await fleet.add(1, { flight: 0, keep: five })) as [Sender];
    await fleet.until(5);
    await fleet.add(1, { flight: 0, keep: five });
    await sleep(BEAT);
    victim.signal("SIGKILL");
    await fleet.until(0);
    const killed = performance.now();
    const { violations } = await fleet.until(5, TTL + BEAT + SLACK);
    note("slots of a killed process", { usableAfter: Math.round(performance.now() - killed), ttl: TTL, beat: BEAT });
    expect(violations).toEqual([]);
  });

  it("a stalled event loop: the watchdog ends the process before others get its slots", async () => {
    await using fleet = await fleetOf(6);
    const senders = await fleet.add(3);
    await fleet.until(6);
    const [stalled] = senders as [Sender];
    await sleep(300);
    await stalled.do({ do: "block", ms: 3 * TTL });
    expect(await stalled.ended).toBe("SIGKILL");
    const { violations, connections } = await fleet.until((report) => report.open["*"] === 6);
    note("stalled event loop, watchdog", { connections, violations: violations.length });
    expect(violations).toEqual([]);
    await fleet.stop();
    expect(sum(fleet.senders.slice(1), ({ lost }) => lost)).toBe(0);
  });

  it("without the watchdog: over by at most what the stalled process holds, and only until it wakes up", async () => {
    await using fleet = await fleetOf(6, { watchdog: false });
    const [stalled] = (await fleet.add(1, { flight: 0, keep: five.slice(0, 2) })) as [Sender];
    await fleet.until(2);
    await fleet.add(2);
    await fleet.until(6);
    const begun = performance.now();
    await stalled.do({ do: "block", ms: 3 * TTL });
    await fleet.until(({ violations }) => violations.length > 0);
    // Awake, it gives up what it held, and asks again.
    await fleet.until(() => stalled.counts.lost === 2, 4 * TTL);
    const { violations, peak, open } = await fleet.until((report) => report.violations.every((each) => each.lasted));
    const awake = performance.now() - begun;
    const lasted = Math.max(...violations.map((violation) => violation.lasted ?? 0));
    note("stalled event loop, no watchdog", {
      violations: violations.length,
      peak,
      held: 2,
      lasted: Math.round(lasted),
    });
    expect(peak).toBeLessThanOrEqual(6 + 2);
    expect(open["*"]).toBeLessThanOrEqual(6);
    // It began no sooner than the ttl after the last sign of life.
    expect(lasted).toBeLessThan(awake - TTL + BEAT);
    await fleet.mark();
    await sleep(TTL);
    expect((await fleet.stop()).violations).toEqual([]);
  });

  it("a process stopped with SIGSTOP: over by at most what it holds, and only until it goes on", async () => {
    await using fleet = await fleetOf(6);
    const [stopped] = (await fleet.add(1, { flight: 0, keep: five.slice(0, 2) })) as [Sender];
    await fleet.until(2);
    await fleet.add(2);
    await fleet.until(6);
    stopped.signal("SIGSTOP");
    await fleet.until(({ violations }) => violations.length > 0);
    await sleep(BEAT);
    stopped.signal("SIGCONT");
    await fleet.until((report) => report.violations.every(({ lasted }) => lasted));
    const { violations, peak } = await fleet.mark();
    note("SIGSTOP", { violations: violations.length, peak, held: 2 });
    expect(peak).toBeLessThanOrEqual(6 + 2);
    await sleep(TTL);
    expect((await fleet.stop()).violations).toEqual([]);
  });

  it("wall clocks of senders that step by an hour, there and back", async () => {
    await using fleet = await fleetOf(6);
    const senders = await fleet.add(3);
    await fleet.until(6);
    for (const by of [3_600_000, -3_600_000, 3_600_000, 0]) {
      for (const [index, sender] of senders.entries()) await sender.do({ do: "clock", by: index === 0 ? -by : by });
      await sleep(TTL / 2);
    }
    const { violations, connections, cut } = await fleet.stop();
    note("wall clocks of senders", { connections, violations: violations.length });
    expect(violations).toEqual([]);
    expect(cut).toBe(0);
  });

  it("a process that comes and goes every second leaves no key behind, nor does the last that goes", async () => {
    const ttl = 1_000;
    await using fleet = await fleetOf(6, { ttl });
    const keys = async (): Promise<unknown[]> => (await redis.command("KEYS", `{crash-${fleets - 1}}*`)) as unknown[];
    const [staying] = (await fleet.add(1)) as [Sender];
    for (let churns = 0; churns < 5; churns++) {
      const [churning] = (await fleet.add(1)) as [Sender];
      await sleep(300);
      if (churns % 2 === 0) churning.signal("SIGKILL");
      else await churning.do({ do: "exit" });
      await churning.ended;
    }
    await sleep(5 * ttl);
    // The state, and what the one that stayed holds.
    expect(await keys()).toHaveLength(2);
    expect(staying.isAlive).toBe(true);
    const { violations, connections } = await fleet.stop();
    await sleep(5 * ttl);
    expect(await keys()).toEqual([]);
    note("churning process", { churns: 5, connections, violations: violations.length, keys: 0 });
    expect(violations).toEqual([]);
  });
});
