// What can happen to the engine: it dies and comes back with nothing, with old data or with its own, is emptied, stands
// still, or its clock jumps. All the while senders hold connections, some longer than that lasts, most shorter.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeServer, type RedisServer, startRedis } from "../redis/server.js";
import { CLOCK_PATCH, step } from "./clock.js";
import { BEAT, buildPrograms, Fleet, note, type Programs, sum, TTL } from "./rig.js";

/** Where nothing may be lost: a restart of the engine takes some time on a busy machine. */
const LONG_TTL = 4_000;
const LIMIT = 8;
const kept = [{ domain: "kept-1.example" }, { domain: "kept-2.example" }];

describeServer("an engine that fails", () => {
  let programs: Programs;
  beforeAll(async () => {
    programs = await buildPrograms();
  });
  afterAll(() => programs[Symbol.dispose]());

  /** Three senders with all slots in use, two of them for ever. */
  async function busyFleet(redis: RedisServer, cluster: { ttl?: number } = {}, used = programs): Promise<Fleet> {
    const fleet = await Fleet.start(used, {
      url: redis.url,
      policy: `cluster_server_max_outbound_connections = ${LIMIT}`,
      limits: { "*": LIMIT },
      cluster: { isNew: true, ...cluster },
    });
    await Promise.all([fleet.add(1, { keep: kept }), fleet.add(2)]);
    // One that knows of no epoch yet would be believed that the name space is new.
    await fleet.until(() => fleet.senders.every(({ counts }) => counts.states.includes("up")));
    await fleet.until(LIMIT);
    return fleet;
  }

  /** Nothing was over the limit, nothing was lost, and everybody works again. */
  async function isUnharmed(name: string, fleet: Fleet, mayLose = false): Promise<void> {
    await fleet.until(LIMIT);
    const before = await fleet.report();
    await fleet.until(({ connections }) => connections > before.connections + 50);
    const { violations, connections, cut } = await fleet.stop();
    const lost = sum(fleet.senders, (counts) => counts.lost);
    note(name, { connections, violations: violations.length, cut, lost });
    expect(violations).toEqual([]);
    if (!mayLose) expect({ cut, lost }).toEqual({ cut: 0, lost: 0 });
  }

  it("killed and back empty: nothing over, no connection dropped, full again by itself", async () => {
    await using redis = await startRedis();
    await using fleet = await busyFleet(redis, { ttl: LONG_TTL });
    await redis.kill();
    await redis.restart();
    await sleep(LONG_TTL);
    await isUnharmed("killed and back empty", fleet);
  });

  it("killed and back with an old snapshot", async () => {
    await using redis = await startRedis({ args: ["--save", "3600 1000000"] });
    await using fleet = await busyFleet(redis, { ttl: LONG_TTL });
    await redis.command("SAVE");
    await fleet.add(1);
    await sleep(BEAT);
    await redis.kill();
    await redis.restart();
    expect(await redis.command("EXISTS", "{chaos}")).toBe(1);
    await sleep(LONG_TTL);
    await isUnharmed("killed and back with an old snapshot", fleet);
  });

  it("killed and back with its data", async () => {
    await using redis = await startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
    await using fleet = await busyFleet(redis, { ttl: LONG_TTL });
    await redis.kill();
    await redis.restart();
    expect(await redis.command("EXISTS", "{chaos}")).toBe(1);
    await sleep(LONG_TTL);
    await isUnharmed("killed and back with its data", fleet);
  });

  it("away for longer than what is held is good for: it is lost, and never over", async () => {
    await using redis = await startRedis();
    await using fleet = await busyFleet(redis);
    await redis.kill();
    await fleet.until(0, 2 * TTL);
    await sleep(TTL / 2);
    await redis.restart();
    await isUnharmed("away for longer than the ttl", fleet, true);
    expect(sum(fleet.senders, ({ lost }) => lost)).toBeGreaterThanOrEqual(kept.length);
  });

  it("FLUSHALL", async () => {
    await using redis = await startRedis();
    await using fleet = await busyFleet(redis, { ttl: LONG_TTL });
    for (let flushes = 0; flushes < 3; flushes++) {
      await redis.command("FLUSHALL");
      await sleep(TTL / 2 + Math.random() * LONG_TTL);
    }
    await isUnharmed("FLUSHALL", fleet);
  });

  it("SCRIPT FLUSH: nobody notices", async () => {
    await using redis = await startRedis();
    await using fleet = await busyFleet(redis, { ttl: LONG_TTL });
    for (let flushes = 0; flushes < 10; flushes++) {
      await redis.command("SCRIPT", "FLUSH");
      await sleep(100);
    }
    await isUnharmed("SCRIPT FLUSH", fleet);
    expect(fleet.senders.flatMap(({ counts }) => counts.states)).not.toContain("down");
  });

  it("frozen: whoever asks is refused again and again meanwhile, and goes on by itself after that", async () => {
    await using redis = await startRedis();
    await using fleet = await busyFleet(redis);
    const refusals = (): number[] => fleet.senders.map(({ counts }) => counts.refused["ERR_LIMITER_CLUSTER"] ?? 0);
    redis.freeze();
    // Each of the four that ask at a time waits for the deadline of one call, which is a heartbeat; the others for nothing.
    await sleep(1.5 * TTL);
    const whileFrozen = refusals();
    redis.thaw();
    note("frozen", { refusals: whileFrozen });
    for (const count of whileFrozen) expect(count).toBeGreaterThanOrEqual(4 * 3);
    await isUnharmed("frozen and thawed", fleet, true);
  });

  it("frozen for less than what is held is good for: nothing is lost", async () => {
    await using redis = await startRedis();
    await using fleet = await busyFleet(redis, { ttl: LONG_TTL });
    for (let freezes = 0; freezes < 2; freezes++) {
      redis.freeze();
      await sleep(BEAT);
      redis.thaw();
      await sleep(LONG_TTL / 2);
    }
    await isUnharmed("frozen for a moment", fleet);
  });

  it("its clock steps by an hour, and by less than its keys live, there and back", async () => {
    using patched = await buildPrograms([CLOCK_PATCH]);
    await using redis = await startRedis();
    await using fleet = await busyFleet(redis, { ttl: LONG_TTL }, patched);
    // The first and the second leave the keys alone; the third takes all of them.
    for (const by of [3 * LONG_TTL, 0, 3_600_000, -3_600_000, 0]) {
      await step(redis, "chaos", by);
      await sleep(LONG_TTL / 2);
    }
    await isUnharmed("clock of the engine", fleet);
  });
});
