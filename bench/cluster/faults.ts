// What a crash, a restart and an outage cost. That no fault lets in too many is for the chaos suite to show.

import { setTimeout as sleep } from "node:timers/promises";
import { type Bench, type Figure, figure, type Outcome } from "../measure.js";
import { only } from "./limits.js";
import { setupOn, withFleet } from "./rig.js";
import { type Connection, clock } from "./worker.js";

const TTL = 2_000;
const BEAT = TTL / 5;

/** How long the slots of a killed process are missing, at most. */
async function afterKill(bench: Bench): Promise<number> {
  const slots = 4;
  return withFleet(2, async (server, { all: [one, other] }) => {
    const setup = setupOn(server, bench, { stream: "one", caps: only(slots), options: { ttl: TTL } });
    await Promise.all([one?.tell("open", setup), other?.tell("open", setup)]);
    await one?.tell("take", { count: slots, wait: true });
    const waiting = other?.tell("take", { count: slots, wait: true });
    // Killed at any time between its signs of life.
    await sleep(BEAT * (1 + Math.random()));
    const killed = clock();
    await one?.kill();
    return Math.max(...((await waiting) ?? [])) - killed;
  });
}

/** The server is killed, and comes back with nothing, under two processes that hold 8 of 10 slots. */
async function afterRestart(bench: Bench): Promise<Figure[]> {
  return withFleet(2, async (server, fleet) => {
    const [one, other] = fleet.all;
    await fleet.tell("open", setupOn(server, bench, { stream: "one", caps: only(10), options: { ttl: TTL } }));
    await fleet.tell("take", { count: 4, wait: true });
    // What is spare has gone back.
    await sleep(2_500);
    await server.restart();
    const back = clock();
    await one?.tell("release", 1);
    const again = await one?.tell("take", { count: 1, wait: true });
    const rest = await other?.tell("take", { count: 2, wait: true });
    const lost = (await fleet.tell("granted")).reduce((sum, told) => sum + told.lost, 0);
    await fleet.tell("close");
    return [
      figure("G4: server back empty: connections dropped", lost, "of 8", { most: 0 }),
      figure("G4: server back empty: a new one on a slot that is held, after", Number(again?.[0]) - back, "ms", {
        most: 1_000,
      }),
      figure(`G4: server back empty: all slots in use, ttl ${TTL} ms, after`, Math.max(...(rest ?? [])) - back, "ms", {
        most: TTL + 300,
      }),
    ];
  });
}

/** How many were open at one time, at most. */
function mostAtOnce(connections: readonly Connection[]): number {
  const moments = connections.flatMap(({ granted, released }) => [[granted, 1] as const, [released, -1] as const]);
  // One that ends when another begins is not counted with it.
  moments.sort(([a, up], [b, other]) => a - b || up - other);
  let open = 0;
  let most = 0;
  for (const [, change] of moments) {
    open += change;
    most = Math.max(most, open);
  }
  return most;
}

/** Four processes with `whenDown` "share", while the server is away. */
async function throughOutage(bench: Bench): Promise<Figure[]> {
  const [slots, processes, outage] = [20, 4, bench.quick ? 3_000 : 12_000];
  return withFleet(processes, async (server, fleet) => {
    const options = { ttl: TTL, whenDown: "share" } as const;
    await fleet.tell("open", setupOn(server, bench, { stream: "one", caps: only(slots), options }));
    const from = clock() + 1_500;
    const until = from + outage;
    const pumping = fleet.tell("pump", { inFlight: slots, hold: 50, spread: 0.5, from: from - 1_000, until });
    await sleep(from - clock());
    await server.kill();
    const all = (await pumping).flatMap(({ connections }) => connections);
    const held = all.reduce(
      (sum, { granted, released }) => sum + Math.max(0, Math.min(released, until) - Math.max(granted, from)),
      0,
    );
    return [
      figure(`G10: share, ${outage / 1_000} s without a server: open at one time, of ${slots}`, mostAtOnce(all), "", {
        most: slots,
      }),
      figure(`G10: share, ${outage / 1_000} s without a server: slots in use`, (held / outage / slots) * 100, "%", {
        least: 80,
      }),
    ];
  });
}

export async function clusterFaults(bench: Bench): Promise<Outcome> {
  const missing: number[] = [];
  for (let kill = 0; kill < (bench.quick ? 1 : 5); kill++) missing.push(await afterKill(bench));
  return {
    figures: [
      figure(
        `G3: slots of a killed process, ttl ${TTL} ms: with another at the latest after`,
        Math.max(...missing),
        "ms",
        {
          most: TTL + BEAT + 250,
        },
      ),
      ...(await afterRestart(bench)),
      ...(await throughOutage(bench)),
    ],
  };
}
