// traffic.ts: what there is to send. Seeded: each run has the same messages, in the same order, at the same moments.

/** Our bindings and the source address of each. The address is all a receiver ever learns about a binding. */
export const sources: ReadonlyMap<string, string> = new Map([
  ["bulk-1", "127.0.0.11"],
  ["bulk-2", "127.0.0.12"],
  ["receipts", "127.0.0.13"],
  ["alerts", "127.0.0.14"],
]);

export const shopDomains: readonly string[] = Array.from({ length: 8 }, (_, i) => `shop-${i + 1}.example`);
export const smallDomains: readonly string[] = Array.from({ length: 30 }, (_, i) => `small-${i + 1}.example`);

/** Messages that go over one connection. */
export interface Batch {
  readonly binding: string;
  readonly domain: string;
  readonly messages: number;
  /** Milliseconds after the start. */
  readonly arrivesAt: number;
}

interface Flow {
  readonly domain: string;
  readonly messages: number;
  readonly perConnection: number;
  /** The mail arrives within so many milliseconds. */
  readonly within: number;
}

/** Very unequal, as mail is: four domains get most of it, thirty get little, and get it while the four are busy. */
const flows: readonly Flow[] = [
  { domain: "gmail.com", messages: 1600, perConnection: 20, within: 500 },
  { domain: "yahoo.com", messages: 900, perConnection: 20, within: 500 },
  { domain: "orange.fr", messages: 320, perConnection: 10, within: 500 },
  { domain: "wanadoo.fr", messages: 180, perConnection: 10, within: 500 },
  ...shopDomains.map((domain) => ({ domain, messages: 60, perConnection: 10, within: 500 })),
  ...smallDomains.map((domain, i) => ({ domain, messages: Math.ceil(60 / (i + 1)), perConnection: 2, within: 3000 })),
];

export function countMessages(batches: readonly Batch[]): number {
  return batches.reduce((sum, { messages }) => sum + messages, 0);
}

/** All batches in the order they arrive. `scale` makes more or less of them. */
export function makeTraffic(scale: number): Batch[] {
  if (!(scale > 0)) throw new RangeError("The scale must be a number above 0");
  const random = seededRandom(20);
  const names = [...sources.keys()];
  // Two thirds of the mail leaves from the bulk bindings.
  const pickBinding = () => names[random() < 0.66 ? Math.floor(random() * 2) : 2 + Math.floor(random() * 2)]!;
  return flows
    .flatMap(({ domain, messages, perConnection, within }) => {
      const total = Math.max(1, Math.round(messages * scale));
      return Array.from({ length: Math.ceil(total / perConnection) }, (_, i) => ({
        binding: pickBinding(),
        domain,
        messages: Math.min(perConnection, total - i * perConnection),
        arrivesAt: Math.floor(random() * within),
      }));
    })
    .sort((a, b) => a.arrivesAt - b.arrivesAt);
}

/** mulberry32: Math.random() cannot be seeded. */
function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
