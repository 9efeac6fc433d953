// Bytes: of a counter, a waiting request and a lease, and what is left when all are gone.

import type { Lease, LocalLimiter } from "../src/index.js";
import { MANY } from "./costs.js";
import { type Bench, figure, liveHeap, type Outcome } from "./measure.js";
import { domainName, type Library, limiterFor, listOf, NO_CAPS, type Tuple, Tuples } from "./workloads.js";

/** Bytes that each of so many things keeps alive; the array that holds them was there before. */
async function each(count: number, make: (at: number) => unknown): Promise<number> {
  const kept: unknown[] = listOf(count, () => undefined);
  // What is made once, code among it, is not counted.
  for (let at = 0; at < 1000; at++) make(at);
  const before = await liveHeap();
  for (let at = 0; at < count; at++) kept[at] = make(at);
  const after = await liveHeap();
  return kept.length === count ? (after - before) / count : Number.NaN;
}

/** A limiter with or without one more counter for every host; every host falls into its stanza all the same. */
function perHost({ createLimiter, definePolicy }: Library, isLimited: boolean, matchCacheSize: number): LocalLimiter {
  const shared = { scope_max_outbound_connections: MANY };
  const host = { "/./": isLimited ? { ...shared, max_outbound_connections: 10 } : shared };
  return createLimiter(definePolicy({ server_max_outbound_connections: MANY, host }), { matchCacheSize });
}

export async function memory({ library, quick }: Bench): Promise<Outcome> {
  const count = quick ? 5_000 : 50_000;
  const tuples = new Tuples();
  const targets = listOf(count, (at) => tuples.of("mta-1", domainName(at)));
  const one = targets[0] as Tuple;

  const shared = limiterFor(library, [one], NO_CAPS);
  const bareLease = await each(count, () => shared.tryAcquire(one));
  const lease = await each(count, () => {
    const held = shared.tryAcquire(one) as Lease;
    // Made when first asked for.
    void held.release;
    return held;
  });

  const [without, withCounter] = [perHost(library, false, 2 * count), perHost(library, true, 2 * count)];
  const plain = await each(count, (at) => without.tryAcquire(targets[at] as Tuple));
  const counted = await each(count, (at) => withCounter.tryAcquire(targets[at] as Tuple));
  if (withCounter.snapshot().counters.length - without.snapshot().counters.length !== count)
    throw new Error("Not one counter more for each");

  const full = library.createLimiter(library.definePolicy({ max_outbound_connections: 1 }), { maxWaiting: MANY });
  full.tryAcquire(one);
  const waiter = await each(count, () => full.acquire(one));

  return {
    figures: [
      figure("one counter more, its key and its entry", counted - plain, "bytes", { most: 120 }),
      figure("a waiting request, its promise included", waiter, "bytes", { most: 320 }),
      figure("a lease, its release function included", lease, "bytes", { most: 280 }),
      figure("a lease whose release was not asked for", bareLease, "bytes"),
      figure("all that one connection to a domain of its own takes", plain, "bytes"),
      figure("left of each after a drain", await leftAfterDrain(library, targets), "bytes", { most: 1 }),
    ],
  };
}

/** Fills and drains again and again. A leak shows each time; the least of several leaves out what the machine does. */
async function leftAfterDrain({ createLimiter, definePolicy }: Library, targets: readonly Tuple[]): Promise<number> {
  const policy = definePolicy({ max_outbound_connections: 1 });
  const limiter = createLimiter(policy, { maxWaiting: MANY, matchCacheSize: 1000 });
  const release = (lease: Lease): void => lease.release();
  const heaps: number[] = [];
  for (let round = 0; round < 6; round++) {
    const first = targets.map((target) => limiter.tryAcquire(target));
    const waiting = targets.map((target) => limiter.acquire(target).then(release));
    for (const lease of first) lease?.release();
    await Promise.all(waiting);
    heaps.push(await liveHeap());
  }
  const { counters, leases, waiting } = limiter.snapshot();
  if (counters.length + leases + waiting > 0) throw new Error("Something is left");
  const more = heaps.slice(1).map((heap, at) => heap - (heaps[at] ?? 0));
  return Math.max(0, Math.min(...more) / targets.length);
}
