// `whenDown: "share"`: the engine is away for long, and the senders use the slots without it, each its part.

import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeServer, startRedis } from "../redis/server.js";
import { buildPrograms, Fleet, note, type Programs, TTL } from "./rig.js";

describeServer("senders that share without the engine", () => {
  let programs: Programs;
  beforeAll(async () => {
    programs = await buildPrograms();
  });
  afterAll(() => programs[Symbol.dispose]());

  it.each(["killed", "frozen"])("an engine that is %s for several ttl: none over, most in use", async (how) => {
    await using redis = await startRedis();
    await using fleet = await Fleet.start(programs, {
      url: redis.url,
      policy: "cluster_server_max_outbound_connections = 9",
      limits: { "*": 9 },
      cluster: { whenDown: "share" },
    });
    await fleet.add(3, { flight: 6, longHold: [100, 3 * TTL] });
    await fleet.until(9);
    await sleep(TTL);
    await fleet.mark();
    if (how === "killed") await redis.kill();
    else redis.freeze();
    await sleep(5 * TTL);
    const outage = await fleet.mark();
    if (how === "killed") await redis.restart();
    else redis.thaw();
    await sleep(1.5 * TTL);
    await fleet.until(9);
    const { connections, violations } = await fleet.stop();
    note(`share, engine ${how}`, {
      connections: [outage.connections, connections],
      used: outage.used,
      violations: [outage.violations.length, violations.length],
    });
    expect(outage.violations).toEqual([]);
    expect(violations).toEqual([]);
    expect(outage.used).toBeGreaterThan(0.8);
  });
});
