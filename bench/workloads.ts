// Seeded workloads: the targets, the order in which they come, and the five limits that every variant enforces.

import type { createLimiter, definePolicy, LimiterOptions, LocalLimiter, PolicyInput } from "../src/index.js";

/** What is measured: the built package, or its sources. */
export interface Library {
  readonly createLimiter: typeof createLimiter;
  readonly definePolicy: typeof definePolicy;
}

/** A target with all names given. */
export interface Tuple {
  readonly binding: string;
  readonly domain: string;
  readonly host: string;
  /** One flat string, made once: what a table of one map would be asked with. */
  readonly key: string;
}

/** How many connections each of the five limits admits. */
export interface Caps {
  readonly server: number;
  readonly binding: number;
  /** Of a binding to a domain. */
  readonly pair: number;
  /** To a domain over all bindings. */
  readonly domain: number;
  /** The same for each of the three hot domains. */
  readonly hot: number;
  /** Of a binding to a host. */
  readonly host: number;
}

/** Room for everybody: what is timed is the way to a slot, not the waiting for it. */
export const ROOMY: Caps = { server: 20_000, binding: 2_000, pair: 32, domain: 64, hot: 64, host: 32 };

/** Nobody is held up by a limit that is not named. */
export const NO_CAPS: Caps = { server: 1e7, binding: 1e7, pair: 1e7, domain: 1e7, hot: 1e7, host: 1e7 };

/** mulberry32: the same numbers from the same seed everywhere. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Index `i` with a weight of 1 / (i + 1). */
function zipf(size: number, random: () => number): () => number {
  const upTo = new Float64Array(size);
  let sum = 0;
  for (let i = 0; i < size; i++) upTo[i] = sum += 1 / (i + 1);
  return () => {
    const at = random() * sum;
    let low = 0;
    let high = size - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((upTo[middle] ?? 0) <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

export const listOf = <T>(count: number, make: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, at) => make(at));

export const HOT: readonly string[] = listOf(3, (at) => `hot-${at}.example`);
export const bindingName = (at: number): string => `mta-${at}`;
export const domainName = (at: number): string => `domain-${at}.example`;

/** A string as it arrives from outside. V8 would keep a concatenation as its parts, and pay when it is first looked up. */
function flat(text: string): string {
  return Buffer.from(text).toString();
}

/** Makes one object for each tuple and one string for each name, as a sender has that keeps a queue for each. */
export class Tuples {
  readonly all: Tuple[] = [];
  readonly #known = new Map<string, Tuple>();
  readonly #names = new Map<string, string>();

  of(binding: string, domain: string, host: string = `mx.${domain}`): Tuple {
    const key = flat(`${binding} ${domain} ${host}`);
    let tuple = this.#known.get(key);
    if (tuple === undefined) {
      tuple = { binding: this.#once(binding), domain: this.#once(domain), host: this.#once(host), key };
      this.#known.set(key, tuple);
      this.all.push(tuple);
    }
    return tuple;
  }

  #once(name: string): string {
    const known = this.#names.get(name) ?? flat(name);
    this.#names.set(known, known);
    return known;
  }
}

/** A stream is walked round and round; its length is a power of two. */
export interface Workload {
  readonly name: string;
  readonly stream: readonly Tuple[];
}

function workload(
  name: string,
  length: number,
  start: (tuples: Tuples, pick: (count: number) => number, random: () => number) => () => Tuple,
): Workload {
  const random = seeded(length);
  const next = start(new Tuples(), (count) => Math.floor(random() * count), random);
  return { name, stream: listOf(length, next) };
}

export const oneTuple = (): Workload =>
  workload("one tuple", 2 ** 10, (tuples) => () => tuples.of(bindingName(0), domainName(0)));

/** 300 domains from 5 bindings, all as often. */
export const wide = (): Workload =>
  workload(
    "300 domains × 5 bindings",
    2 ** 16,
    (tuples, pick) => () => tuples.of(bindingName(pick(5)), domainName(pick(300))),
  );

/** 10,000 domains by Zipf's law, 50 bindings and 5 hosts evenly: some 75,000 tuples in 131,072 requests. */
export const zipfian = (length: number): Workload =>
  workload("10,000 domains × 50 bindings × 5 hosts", length, (tuples, pick, random) => {
    const domainAt = zipf(10_000, random);
    return () => {
      const domain = domainName(domainAt());
      return tuples.of(bindingName(pick(50)), domain, `mx${pick(5)}.${domain}`);
    };
  });

/**
 * Four requests in five to three hot domains, then the others to so many domains, from 5 bindings. In this order a list
 * has at its head what waits longest in it, as it soon would have anyway.
 */
export function saturated(count: number, domains: number): readonly Tuple[] {
  const random = seeded(count);
  const tuples = new Tuples();
  return listOf(count, (at) => {
    const domain = at < count * 0.8 ? String(HOT[at % 3]) : domainName(Math.floor(random() * domains));
    return tuples.of(bindingName(Math.floor(random() * 5)), domain);
  });
}

/**
 * From so many bindings to as many domains, each pair as likely. With one connection each, whoever gets one of the two
 * limits lacks the other.
 */
export function crossBlocked(size: number): () => Tuple {
  const random = seeded(size);
  const tuples = new Tuples();
  const pick = (): number => Math.floor(random() * size);
  return () => tuples.of(bindingName(pick()), domainName(pick()));
}

/** The five kinds of limits, the most specific first: one that waits for a wider one holds up the fewest. */
export const KINDS = ["host", "pair", "domain", "binding", "server"] as const;
export type Kind = (typeof KINDS)[number];

/** The five limits of a tuple, in that order, by their keys. */
export function limitsOf<S>({ binding, domain, host }: Tuple, limit: (key: string, kind: Kind) => S): readonly S[] {
  return [
    limit(`host ${binding} ${host}`, "host"),
    limit(`pair ${binding} ${domain}`, "pair"),
    limit(`domain ${domain}`, "domain"),
    limit(`binding ${binding}`, "binding"),
    limit("server", "server"),
  ];
}

const HOT_KEYS: ReadonlySet<string> = new Set(HOT.map((domain) => `domain ${domain}`));

/** How many a limit admits. */
export const capOf = (caps: Caps, kind: Kind, key: string): number => (HOT_KEYS.has(key) ? caps.hot : caps[kind]);

/** The same five limits as a policy for these tuples. */
export function policyOf(tuples: readonly Tuple[], caps: Caps): PolicyInput {
  const domains = [...new Set(tuples.map(({ domain }) => domain))];
  const bindings = [...new Set(tuples.map(({ binding }) => binding))];
  const scopeMax = (domain: string): number => (HOT.includes(domain) ? caps.hot : caps.domain);
  return {
    server_max_outbound_connections: caps.server,
    server_reserve_outbound_connections: 0,
    max_outbound_connections: caps.pair,
    domain: Object.fromEntries(domains.map((name) => [name, { scope_max_outbound_connections: scopeMax(name) }])),
    host: { "/./": { max_outbound_connections: caps.host } },
    binding: Object.fromEntries(bindings.map((name) => [name, { server_max_outbound_connections: caps.binding }])),
  };
}

/** Ours over the five limits. Everybody may wait, and every tuple is remembered. */
export function limiterFor(
  library: Library,
  tuples: readonly Tuple[],
  caps: Caps,
  options: LimiterOptions & { readonly cluster?: undefined } = {},
): LocalLimiter {
  const policy = library.definePolicy(policyOf(tuples, caps));
  return library.createLimiter(policy, { maxWaiting: Number.POSITIVE_INFINITY, matchCacheSize: 2 ** 18, ...options });
}
