// A flood to three domains, and a thousand small ones that must not wait for it to be over.

import { type Bench, type Figure, figure, type Outcome, quantile } from "../measure.js";
import { type Granted, type Line, OneList, ParkedAlone } from "../naive.js";
import { ourLine } from "../waiting.js";
import { bindingName, type Caps, domainName, HOT, NO_CAPS, policyOf, seeded, Tuples } from "../workloads.js";
import { type Arrival, simulate, type VirtualTime } from "./simulation.js";

const CAPS: Caps = { ...NO_CAPS, server: 200, hot: 100 };
const PERCENTILES: readonly (readonly [name: string, inWords: string, part: number])[] = [
  ["median", "half of them wait no longer than", 0.5],
  ["p90", "90 % wait no longer than", 0.9],
  ["p99", "99 % wait no longer than", 0.99],
  ["longest", "the longest wait", 1],
];

/** The flood at once, the small ones in the first minute; each connection is open for half a second to one and a half. */
function arrivals(tuples: Tuples, size: number): readonly Arrival[] {
  const random = seeded(6);
  const pick = (count: number): number => Math.floor(random() * count);
  const all: Arrival[] = [];
  const add = (at: number, domain: string): void =>
    void all.push({ at, tuple: tuples.of(bindingName(pick(5)), domain), hold: 500 + pick(1000) });
  for (let i = 0; i < 20_000 * size; i++) add(0, String(HOT[i % 3]));
  for (let i = 0; i < 5_000 * size; i++) add(1 + pick(60_000 * size), domainName(pick(1000)));
  return all;
}

export async function flood({ library, quick }: Bench): Promise<Outcome> {
  const tuples = new Tuples();
  const all = arrivals(tuples, quick ? 0.1 : 1);
  const policy = library.definePolicy(policyOf(tuples.all, CAPS));
  const lines: Readonly<Record<string, (granted: Granted, clock: VirtualTime) => Line>> = {
    "outbound-limiter": (granted, clock) => ourLine(library.createLimiter(policy, { clock }), granted),
    "one list": (granted) => new OneList(CAPS, granted),
    "each request parked alone": (granted) => new ParkedAlone(CAPS, granted),
  };
  /** Of the small ones, in seconds, by line. */
  const waits = new Map<string, readonly number[]>();
  const ends: Figure[] = [];
  for (const [name, makeLine] of Object.entries(lines)) {
    const served = await simulate(all, makeLine);
    const small = served.filter(({ tuple }) => !HOT.includes(tuple.domain));
    waits.set(
      name,
      small.map(({ waited }) => waited / 1000),
    );
    ends.push(
      figure(`${name}: the last connection is over after`, Math.max(...served.map(({ end }) => end)) / 1000, "s"),
    );
  }
  const at = (name: string, part: number): number => quantile(waits.get(name) ?? [], part);
  const figures = PERCENTILES.map(([name, , part]) => {
    const share = (at("outbound-limiter", part) / at("one list", part)) * 100;
    return figure(`${name} wait of the small domains, of what one list makes them wait`, share, "%", { most: 15 });
  });
  for (const name of waits.keys())
    figures.push(...PERCENTILES.map(([percentile, , part]) => figure(`${name}: ${percentile}`, at(name, part), "s")));
  return {
    figures: [...figures, ...ends],
    charts: [
      {
        file: "flood.svg",
        kind: "bars",
        scale: "even",
        title: "How long a small domain waits while three others are flooded",
        note: "simulated seconds until a connection may be opened; shorter is better",
        unit: "s",
        groups: PERCENTILES.map(([, name, part]) => ({
          name,
          bars: [...waits.keys()].map((line) => ({ name: line, value: at(line, part) })),
        })),
      },
    ],
  };
}
