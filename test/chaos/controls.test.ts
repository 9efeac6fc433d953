// Whether this suite would notice: each guard is taken out of a copy of the sources, and the receiver must see more
// connections than the limit; with the guard in, in the same rig and under the same faults, it must not.

import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { describeServer, type RedisServer, startRedis } from "../redis/server.js";
import { CLOCK_PATCH, step } from "./clock.js";
import { type RedisProxy, startProxy } from "./proxy.js";
import { BEAT, buildPrograms, Fleet, note, type Patch, TTL } from "./rig.js";

interface Guard {
  readonly name: string;
  /** Takes it out. */
  readonly patch: Patch;
  /** One round of what it guards against. */
  readonly provoke: (redis: RedisServer, proxy: RedisProxy) => Promise<void>;
}

/** With the guard; without it, as many as it takes, up to a few times that. */
const ROUNDS = 4;
const LIMIT = 6;
const kept = [{ domain: "kept-1.example" }, { domain: "kept-2.example" }];

const guards: readonly Guard[] = [
  {
    name: "learning: an engine that lost its data grants nothing for one ttl",
    patch: {
      file: "cluster/common.lua",
      from: `set(state, "learn", isNew and 0 or ttl)`,
      to: `set(state, "learn", 0)`,
    },
    provoke: async (redis) => {
      await redis.command("FLUSHALL");
      await sleep(1.5 * TTL);
    },
  },
  {
    name: "clock cap: a step of the engine's clock expires nobody",
    patch: {
      file: "cluster/common.lua",
      from: `min(max(0, wall - number(state, "wall")), floor(ttl / 4))`,
      to: `max(0, wall - number(state, "wall"))`,
    },
    provoke: async (redis) => {
      await step(redis, "chaos", 3 * TTL);
      await sleep(BEAT);
      await step(redis, "chaos", 0);
      await sleep(TTL);
    },
  },
  {
    name: "sequence: an old statement is not applied again",
    patch: {
      file: "cluster/sync.lua",
      from: `if known and sequence <= known.sequence then return { "stale" } end`,
      to: "",
    },
    provoke: async (_, { faults }) => {
      Object.assign(faults, { repeat: 0.3, repeatAfter: [0, TTL] });
      await sleep(TTL);
    },
  },
  {
    name: "fence: a process that cannot renew gives up by itself",
    patch: {
      file: "cluster/member.ts",
      from: "if (performance.now() >= this.#validUntil) this.#fence();",
      to: "",
    },
    provoke: async (_, proxy) => {
      proxy.part();
      await sleep(1.5 * TTL);
      proxy.join();
      await sleep(TTL / 2);
    },
  },
];

describeServer("the guards", () => {
  async function run({ provoke }: Guard, patches: readonly Patch[], rounds: number): Promise<number> {
    using programs = await buildPrograms([CLOCK_PATCH, ...patches]);
    await using redis = await startRedis();
    await using proxy = await startProxy(redis.port);
    await using fleet = await Fleet.start(programs, {
      url: redis.url,
      policy: `cluster_server_max_outbound_connections = ${LIMIT}`,
      limits: { "*": LIMIT },
      // The watchdog would end who does not give up.
      cluster: { isNew: true, watchdog: false },
    });
    await Promise.all([fleet.add(1, { url: proxy.url, keep: kept }), fleet.add(2)]);
    // One that knows of no epoch yet would be believed that the name space is new.
    await fleet.until(() => fleet.senders.every(({ counts }) => counts.states.includes("up")));
    await fleet.until(LIMIT);
    for (let round = 0; round < rounds; round++) {
      await provoke(redis, proxy);
      const { violations } = await fleet.report();
      if (violations.length > 0) return violations.length;
    }
    return 0;
  }

  it.each(guards)("$name", async (guard) => {
    const violations = {
      without: await run(guard, [guard.patch], 3 * ROUNDS),
      with: await run(guard, [], ROUNDS),
    };
    note(`control, ${guard.name}`, violations);
    expect(violations.without).toBeGreaterThan(0);
    expect(violations.with).toBe(0);
  });
});
