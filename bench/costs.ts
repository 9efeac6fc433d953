// What one connection costs while there is room: in terms of one map look-up, of one await, and in bytes.

import type { Lease, LocalLimiter, PolicyInput } from "../src/index.js";
import { allocatedBy, type Bench, figure, interleave, medianFigure, type Outcome, type Variant } from "./measure.js";
import { limiterFor, oneTuple, ROOMY, type Tuple, type Workload, wide, zipfian } from "./workloads.js";

export const MANY = 1_000_000;

export const rounds = ({ quick }: Bench): number => (quick ? 7 : 31);
const roundTime = ({ quick }: Bench): number => (quick ? 15 : 50);

/** U: the least any table can do. */
export function lookUp(stream: readonly Tuple[]): Variant {
  const entries = new Map(stream.map(({ key }) => [key, { field: 1 }]));
  const mask = stream.length - 1;
  let at = 0;
  return {
    name: "U",
    run(ops) {
      let sum = 0;
      for (let i = 0; i < ops; i++) sum += entries.get((stream[at++ & mask] as Tuple).key)?.field ?? 0;
      if (sum !== ops) throw new Error("Not every key was found");
    },
  };
}

export function takeAndRelease(name: string, limiter: LocalLimiter, stream: readonly Tuple[]): Variant {
  const mask = stream.length - 1;
  let at = 0;
  return {
    name,
    run(ops) {
      for (let i = 0; i < ops; i++) (limiter.tryAcquire(stream[at++ & mask] as Tuple) as Lease).release();
    },
  };
}

/** Once through: no tuple that is timed is a new one. */
function seen(variant: Variant, { stream }: Workload): Variant {
  void variant.run(stream.length);
  return variant;
}

/** An object and its function: what no library can do without that gives a lease out. */
class BareLease {
  readonly target: object;
  readonly release: () => void;
  isHeld = true;

  constructor(target: object) {
    this.target = target;
    this.release = giveBack(this);
  }
}

/** Apart, as a function without a name: tsx gives named ones their names at run time, which costs more than the rest. */
function giveBack(lease: BareLease): () => void {
  return () => {
    lease.isHeld = false;
  };
}

function bareLease({ stream }: Workload): Variant {
  const kept: BareLease[] = [];
  const mask = stream.length - 1;
  return {
    name: "bare lease",
    run(ops) {
      for (let i = 0; i < ops; i++) {
        const lease = new BareLease(stream[i & mask] as Tuple);
        // Somewhere it can be seen, or it would never be made.
        kept[i & 7] = lease;
        lease.release();
      }
    },
  };
}

async function inLookUps(bench: Bench, workload: Workload, most: number): Promise<Outcome> {
  const { stream } = workload;
  const measured = await interleave(
    [
      lookUp(stream),
      seen(takeAndRelease("ours", limiterFor(bench.library, stream, ROOMY), stream), workload),
      bareLease(workload),
    ],
    rounds(bench),
    roundTime(bench),
  );
  return {
    figures: [
      medianFigure("tryAcquire + release", measured.ratios("ours", "U"), "U", { most }),
      medianFigure("of it: one small object and one function", measured.ratios("bare lease", "U"), "U"),
      measured.figure("U", "U"),
      measured.figure("tryAcquire + release", "ours"),
    ],
  };
}

export const hotCost = (bench: Bench): Promise<Outcome> => inLookUps(bench, oneTuple(), 2.5);
export const wideCost = (bench: Bench): Promise<Outcome> => inLookUps(bench, wide(), 3);

export async function zipfCost(bench: Bench): Promise<Outcome> {
  const workload = zipfian(bench.quick ? 2 ** 14 : 2 ** 17);
  const { figures } = await inLookUps(bench, workload, 5);
  const { stream } = workload;
  const matchCacheSize = bench.quick ? 2 ** 12 : 2 ** 14;
  const few = takeAndRelease("few", limiterFor(bench.library, stream, ROOMY, { matchCacheSize }), stream);
  const measured = await interleave([lookUp(stream), seen(few, workload)], bench.quick ? 3 : 9, roundTime(bench));
  const what = `with a matchCacheSize of only ${matchCacheSize.toLocaleString("en")}`;
  return { figures: [...figures, medianFigure(what, measured.ratios("few", "U"), "U")] };
}

/** The process-wide limits and no more: three claims a tuple. */
function threeClaims(bindings: readonly string[]): PolicyInput {
  return {
    server_max_outbound_connections: MANY,
    server_reserve_outbound_connections: 0,
    max_outbound_connections: MANY,
    binding: Object.fromEntries(bindings.map((name) => [name, { server_max_outbound_connections: MANY }])),
  };
}

function eightClaims(bindings: readonly string[]): PolicyInput {
  const scope = { scope_max_outbound_connections: MANY };
  return {
    server_max_outbound_connections: MANY,
    server_reserve_outbound_connections: 0,
    max_outbound_connections: MANY,
    domain: { "/./": scope },
    host: { "/./": { ...scope, max_outbound_connections: MANY } },
    binding_group: {
      bulk: {
        ...scope,
        domain: { "/./": scope },
        server_max_outbound_connections: MANY,
        binding: Object.fromEntries(bindings.map((name) => [name, {}])),
      },
    },
  };
}

export async function claimsCost(bench: Bench): Promise<Outcome> {
  const workload = wide();
  const { stream } = workload;
  const bindings = [...new Set(stream.map(({ binding }) => binding))];
  const { createLimiter, definePolicy } = bench.library;
  const withClaims = (count: number, policy: PolicyInput): Variant => {
    const limiter = createLimiter(definePolicy(policy));
    const { limits } = limiter.explain(stream[0] as Tuple);
    if (limits.length !== count) throw new Error(`The policy makes ${limits.length} claims, not ${count}`);
    return seen(takeAndRelease(String(count), limiter, stream), workload);
  };
  const measured = await interleave(
    [withClaims(3, threeClaims(bindings)), withClaims(8, eightClaims(bindings))],
    rounds(bench),
    roundTime(bench),
  );
  return { figures: [medianFigure("eight claims beside three", measured.ratios("8", "3"), "×", { most: 1.25 })] };
}

export async function allocation({ library }: Bench): Promise<Outcome> {
  const { stream } = oneTuple();
  const tuple = stream[0] as Tuple;
  const ops = 500;
  const bytesOf = (end: "release" | typeof Symbol.dispose): number => {
    const limiter = limiterFor(library, [tuple], ROOMY);
    const work = (count: number): void => {
      for (let i = 0; i < count; i++) (limiter.tryAcquire(tuple) as Lease)[end]();
    };
    work(50_000);
    return allocatedBy(() => work(ops)) / ops;
  };
  return {
    figures: [
      figure("tryAcquire + release: a lease and its function", bytesOf("release"), "bytes", { most: 280 }),
      figure("tryAcquire + [Symbol.dispose]: a lease", bytesOf(Symbol.dispose), "bytes"),
    ],
  };
}

export async function awaitCost(bench: Bench): Promise<Outcome> {
  const { stream } = oneTuple();
  const tuple = stream[0] as Tuple;
  const limiter = limiterFor(bench.library, [tuple], ROOMY);
  const resolved = Promise.resolve(1);
  const variants: Variant[] = [
    {
      name: "await",
      async run(ops) {
        let sum = 0;
        for (let i = 0; i < ops; i++) sum += await resolved;
        if (sum !== ops) throw new Error("Not every promise was awaited");
      },
    },
    {
      name: "anew",
      async run(ops) {
        let sum = 0;
        for (let i = 0; i < ops; i++) sum += (await Promise.resolve({ tuple, one: 1 })).one;
        if (sum !== ops) throw new Error("Not every promise was awaited");
      },
    },
    {
      name: "acquire",
      async run(ops) {
        for (let i = 0; i < ops; i++) (await limiter.acquire(tuple)).release();
      },
    },
  ];
  const measured = await interleave(variants, rounds(bench), roundTime(bench));
  return {
    figures: [
      medianFigure("await acquire + release", measured.ratios("acquire", "await"), "× await", { most: 2.5 }),
      medianFigure("of it: await of a new promise of a small object", measured.ratios("anew", "await"), "× await"),
      measured.figure("await of a resolved promise", "await"),
      measured.figure("await acquire + release", "acquire"),
    ],
  };
}
