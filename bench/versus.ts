// Ours beside the other libraries: with room for everybody, over few keys and over many, and with the limits full.

import { setTimeout as sleep } from "node:timers/promises";
import type { BarGroup, Chart } from "./charts.js";
import type { loops } from "./loops.js";
import {
  type Bench,
  type Figure,
  figure,
  type Goal,
  interleave,
  medianFigure,
  type Outcome,
  turn,
  type Variant,
} from "./measure.js";
import { contested, type Held, ours, PEERS, type Peer, prove, TIGHT } from "./peers.js";
import {
  type Caps,
  crossBlocked,
  listOf,
  oneTuple,
  ROOMY,
  saturated,
  type Tuple,
  type Workload,
  wide,
  zipfian,
} from "./workloads.js";

type Loop = keyof typeof loops;

let imports = 0;

/** Its own loop around a library, with its semaphores, or our plans, made already. */
async function prepared(loop: Loop, peer: Peer, { stream }: Workload): Promise<Variant | undefined> {
  const made = (await import(`./loops.js?${imports++}`)) as { readonly loops: typeof loops };
  const variant = made.loops[loop](peer, stream);
  // One that works with timers would take minutes.
  if (peer.lag === undefined) await variant?.run(stream.length);
  return variant;
}

/** One library after the other, and ours anew beside each. The goal is for async-sema. */
async function withRoom({ library, quick }: Bench, loop: Loop, workload: Workload, goal: Goal): Promise<Figure[]> {
  const figures: Figure[] = [];
  const own = (await prepared(loop, ours(library, workload.stream, ROOMY), workload)) as Variant;
  for (const make of PEERS) {
    const peer = make(ROOMY);
    const variant = await prepared(loop, peer, workload);
    if (variant === undefined) continue;
    const measured = await interleave([own, variant], quick ? 5 : 9, quick ? 10 : 40);
    const ratios = measured.ratios(peer.name, own.name);
    figures.push(medianFigure(peer.name, ratios, "× ours", peer.name === "async-sema" ? goal : {}));
  }
  return figures;
}

type Waiting = Peer & Required<Pick<Peer, "acquire">>;
const canWait = (peer: Peer): peer is Waiting => peer.acquire !== undefined;

/** All ask at once; all that are granted end together, until everybody was served. Returns how many rounds it took. */
async function serveAll({ acquire, lag }: Waiting, tuples: readonly Tuple[]): Promise<number> {
  let granted: Held[] = [];
  let served = 0;
  let rounds = 0;
  for (const tuple of tuples) void acquire(tuple).then((held) => granted.push(held));
  for (; served < tuples.length; rounds++) {
    // Until whoever can go is granted.
    if (lag !== undefined) await sleep(1);
    else for (let i = 0; i < 8; i++) await turn();
    const ended = granted;
    granted = [];
    served += ended.length;
    for (const held of ended) held.release();
  }
  return rounds;
}

// Where a limit holds up nobody it is still a small number: async-sema makes an entry for every slot.
const SATURATED: Caps = { server: 100, binding: 101, pair: 101, domain: 101, hot: 50, host: 101 };
const CROSSED: Caps = { server: 100, binding: 1, pair: 2, domain: 1, hot: 1, host: 2 };

async function withLimitsFull({ library, quick }: Bench, tuples: readonly Tuple[], caps: Caps): Promise<Figure[]> {
  const all = [ours(library, tuples, caps), ...PEERS.map((make) => make(caps))].filter(canWait);
  const rounds = new Map<string, number>();
  const variants = all.map((peer): Variant => {
    const run = async (times: number): Promise<void> => {
      for (let i = 0; i < times; i++) rounds.set(peer.name, await serveAll(peer, tuples));
    };
    return { name: peer.name, run };
  });
  // Code that is not compiled yet would cost more than what is compared.
  const often = Math.ceil((quick ? 5_000 : 50_000) / tuples.length);
  for (const [at, variant] of variants.entries()) await variant.run(all[at]?.lag === undefined ? often : 1);
  const measured = await interleave(variants, quick ? 3 : 9, quick ? 10 : 40);
  return all.flatMap(({ name, lag }) => [
    medianFigure(`${name}: CPU time`, measured.ratios(name, "outbound-limiter"), "× ours"),
    // One that works with timers does not grant all that it could within a round.
    ...(lag === undefined ? [figure(`${name}: until all were served`, rounds.get(name) ?? Number.NaN, "rounds")] : []),
  ]);
}

export async function againstPeers(bench: Bench): Promise<Outcome> {
  const { library, quick } = bench;
  for (const peer of [ours(library, contested(), TIGHT), ...PEERS.map((make) => make(TIGHT))]) {
    await prove(peer, peer.lag === undefined ? 400 : 40);
  }
  const figures: Figure[] = [];
  const groups: BarGroup[] = [];
  const add = (group: string, found: readonly Figure[]): void =>
    void figures.push(...found.map((one) => ({ ...one, what: `${group}: ${one.what}` })));

  const workloads: readonly (readonly [workload: Workload, atOnce: Goal, awaited: Goal])[] = [
    [oneTuple(), { least: 20 }, { least: 9 }],
    ...(quick ? [] : [[wide(), {}, {}] as const]),
    [zipfian(quick ? 2 ** 12 : 2 ** 16), { least: 9 }, { least: 5 }],
  ];
  for (const [workload, atOnce, awaited] of workloads) {
    const { name } = workload;
    add(`try, ${name}`, await withRoom(bench, "try", workload, atOnce));
    const found = await withRoom(bench, "await", workload, awaited);
    add(`await, ${name}`, found);
    const bars = found.map(({ what, value }) => ({ name: what, value }));
    groups.push({ name, bars: [{ name: "outbound-limiter", value: 1 }, ...bars] });
  }
  const size = quick ? 14 : 28;
  add("three hot domains", await withLimitsFull(bench, saturated(size ** 2, 500), SATURATED));
  add("cross-blocked", await withLimitsFull(bench, listOf(size ** 2, crossBlocked(size)), CROSSED));
  const chart: Chart = {
    file: "peers.svg",
    kind: "bars",
    scale: "powers",
    title: "CPU time to open and close one connection under five limits, outbound-limiter = 1",
    note: "room for everybody; the others composed by hand; shorter is cheaper, each line to the right ten times dearer",
    unit: "×",
    groups,
  };
  return { figures, charts: [chart] };
}
