// One request for a busy binding and a busy domain, whose holders never leave together: when is it admitted?

import { type Bench, figure, type Goal, type Outcome, turn } from "../measure.js";
import { type Granted, type Line, OneList, ParkedAlone, type Release } from "../naive.js";
import { ourLine } from "../waiting.js";
import { bindingName, type Caps, domainName, limiterFor, NO_CAPS, type Tuple, Tuples } from "../workloads.js";

const CAPS: Caps = { ...NO_CAPS, binding: 10, domain: 10 };
/** Other domains that keep the binding busy, and other bindings that keep the domain busy. */
const OTHERS = 125;

interface Busy {
  readonly tuples: readonly Tuple[];
  readonly both: Tuple;
  /** In turn one that keeps the binding busy and one that keeps the domain busy. */
  readonly others: readonly Tuple[];
}

function busy(): Busy {
  const tuples = new Tuples();
  const both = tuples.of(bindingName(0), domainName(0));
  for (let i = 1; i <= OTHERS; i++) {
    tuples.of(bindingName(0), domainName(i));
    tuples.of(bindingName(i), domainName(0));
  }
  return { tuples: tuples.all, both, others: tuples.all.slice(1) };
}

/** Connections of the binding and of the domain end in turn; whoever ended asks again. Infinity: not in so many. */
async function releasesUntilAdmitted(
  { both, others }: Busy,
  waiting: number,
  patience: number,
  makeLine: (granted: Granted) => Line,
): Promise<number> {
  const ofBinding: { tuple: Tuple; release: Release }[] = [];
  const ofDomain: { tuple: Tuple; release: Release }[] = [];
  let isAdmitted = false;
  const line = makeLine((tuple, release) => {
    if (tuple === both) isAdmitted = true;
    else (tuple.binding === both.binding ? ofBinding : ofDomain).push({ tuple, release });
  });
  const ask = (count: number): void => {
    for (let i = 0; i < count; i++) line.ask(others[i % others.length] as Tuple);
  };
  ask(CAPS.binding + CAPS.domain);
  await turn();
  line.ask(both);
  ask(waiting);
  await turn();
  for (let releases = 0; releases < patience; releases++) {
    if (isAdmitted) return releases;
    const ended = (releases % 2 === 0 ? ofBinding : ofDomain).shift();
    if (ended === undefined) throw new Error("A limit that should be full is not");
    ended.release();
    line.ask(ended.tuple);
    await turn();
  }
  return Number.POSITIVE_INFINITY;
}

export async function twoBusyLimits({ library, quick }: Bench): Promise<Outcome> {
  const world = busy();
  const designs: readonly (readonly [name: string, goal: Goal, (granted: Granted) => Line])[] = [
    ["outbound-limiter", { most: 5_000 }, (granted) => ourLine(limiterFor(library, world.tuples, CAPS), granted)],
    ["one list", {}, (granted) => new OneList(CAPS, granted)],
    ["each request parked alone", {}, (granted) => new ParkedAlone(CAPS, granted)],
  ];
  const figures = [];
  for (const [name, goal, makeLine] of designs) {
    const releases = await releasesUntilAdmitted(world, quick ? 10_000 : 100_000, quick ? 5_000 : 10_000, makeLine);
    figures.push(figure(`${name}: admitted after`, releases, "releases", goal));
  }
  return { figures };
}
