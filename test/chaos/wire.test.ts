// What can happen between a sender and the engine: answers and messages that are lost, commands that come twice or late, a
// network that parts them. All commands of the senders go through a proxy that does it.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeServer, type RedisServer, startRedis } from "../redis/server.js";
import { type RedisProxy, startProxy } from "./proxy.js";
import { BEAT, buildPrograms, Fleet, type FleetOptions, note, type Programs, type Sender, sum, TTL } from "./rig.js";

describeServer("a network that fails", () => {
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
  async function fleetOf(limit: number, url: string, options: Partial<FleetOptions> = {}): Promise<Fleet> {
    return Fleet.start(programs, {
      url,
      policy: `cluster_server_max_outbound_connections = ${limit}`,
      limits: { "*": limit },
      cluster: { prefix: `wire-${fleets++}`, isNew: true },
      ...options,
    });
  }

  async function faultless(name: string, fleet: Fleet, { faults, done }: RedisProxy, limit: number): Promise<void> {
    Object.assign(faults, { cutAnswers: 0, repeat: 0, delay: 0, losePushes: 0 });
    await fleet.until(limit);
    const { violations, connections } = await fleet.stop();
    const lost = sum(fleet.senders, (counts) => counts.lost);
    note(name, { connections, violations: violations.length, lost, faults: { ...done } });
    expect(violations).toEqual([]);
  }

  it("answers destroyed after the script ran: what is sent again is not applied twice", async () => {
    await using proxy = await startProxy(redis.port);
    await using fleet = await fleetOf(6, proxy.url);
    await fleet.add(3);
    await fleet.until(6);
    proxy.faults.cutAnswers = 0.1;
    await sleep(4 * TTL);
    expect(proxy.done.cut).toBeGreaterThan(10);
    await faultless("answers destroyed", fleet, proxy, 6);
  });

  it("commands that come twice, and late", async () => {
    await using proxy = await startProxy(redis.port);
    await using fleet = await fleetOf(6, proxy.url);
    await fleet.add(3);
    await fleet.until(6);
    Object.assign(proxy.faults, {
      repeat: 0.3,
      repeatAfter: [0, 2 * TTL],
      delay: 0.02,
      delayBy: [BEAT / 4, 1.5 * BEAT],
    });
    await sleep(5 * TTL);
    expect(proxy.done.repeated).toBeGreaterThan(50);
    expect(proxy.done.delayed).toBeGreaterThan(5);
    await faultless("duplicated and delayed commands", fleet, proxy, 6);
  });

  it("one sender parted from the engine, with what it said arriving in the end", async () => {
    await using proxy = await startProxy(redis.port);
    await using fleet = await fleetOf(6, redis.url);
    const kept = [{ domain: "kept-1.example" }, { domain: "kept-2.example" }];
    const [parted] = (await fleet.add(1, { url: proxy.url, keep: kept })) as [Sender];
    await fleet.add(2);
    await fleet.until(6);
    for (const time of [0.3 * TTL, 2 * TTL]) {
      proxy.part();
      await sleep(time);
      proxy.join();
      await sleep(TTL);
    }
    expect(parted.counts.lost).toBeGreaterThanOrEqual(2);
    await faultless("parted", fleet, proxy, 6);
    expect(sum(fleet.senders.slice(1), ({ lost }) => lost)).toBe(0);
  });

  it("every message lost: a slot that comes free is taken within a heartbeat of who waits", async () => {
    await using proxy = await startProxy(redis.port);
    await using fleet = await fleetOf(1, proxy.url, { flight: 1, hold: [1, 2], longHold: [1, 2], pause: [0, 0] });
    proxy.faults.losePushes = 1;
    const senders = await fleet.add(3);
    await fleet.until(({ bySender }) => Object.keys(bySender).length === 3);
    await fleet.mark();
    const beats = 20;
    await sleep(beats * BEAT);
    const { bySender, connections } = await fleet.report();
    note("every message lost", { beats, connections, bySender });
    expect(proxy.done.lost).toBeGreaterThan(3);
    // Each has the slot at every third of its own beats, at the least.
    for (const { name } of senders) expect(bySender[name] ?? 0).toBeGreaterThanOrEqual(beats / 3 - 2);
    await faultless("every message lost", fleet, proxy, 1);
  });
});
