// prometheusMetrics with the real prom-client: what is exposed, and that it is true.
import fc from "fast-check";
import * as namespace from "prom-client";
import promClient, { AggregatorRegistry, type Metric, Registry } from "prom-client";
import { describe, expect, it, vi } from "vitest";
import { createLimiter, type LocalLimiter, PolicyError, parsePolicy, type Target } from "../../src/index.js";
import { prometheusMetrics } from "../../src/metrics.js";
import { audienceOf, CHANNELS } from "../../src/observer.js";
import { open, turn } from "../table/open.js";
import { type Family, numberOf, parseExposition } from "./exposition.js";
import { idOf, type Standing, Story, stories } from "./stories.js";

const scale = Number(process.env["FUZZ_RUNS"] ?? 1000) / 1000;
const numRuns = Math.max(1, Math.round(40 * scale));
const timeout = 60_000 + 60_000 * scale;

const gmail: Target = { binding: "mta-1", domain: "gmail.com" };
const orange: Target = { binding: "mta-1", domain: "orange.fr" };

interface Metered {
  readonly registry: Registry;
  readonly metrics: Disposable;
  /** What a scraper reads now. */
  readonly scrape: () => Promise<ReadonlyMap<string, Family>>;
  /** One number of it. */
  readonly read: (name: string, labels?: Readonly<Record<string, string>>) => Promise<number | undefined>;
}

function meter(limiter: LocalLimiter, prefix?: string): Metered {
  const registry = new Registry();
  const metrics = prometheusMetrics(limiter, promClient, { registry, prefix });
  const scrape = async () => parseExposition(await registry.metrics());
  return {
    registry,
    metrics,
    scrape,
    read: async (name, labels) => numberOf(await scrape(), `outbound_limiter_${name}`, labels),
  };
}

/** The scopes that are shown, each with its labels. */
function scopesIn(families: ReadonlyMap<string, Family>): string[] {
  return (families.get("outbound_limiter_scope_limit")?.series ?? []).map(({ labels }) => idOf(labels));
}

describe("the exposition", () => {
  it("parses, and has these families", async () => {
    const { limiter } = open("max_outbound_connections = 1");
    const { scrape } = meter(limiter);
    limiter.tryAcquire(gmail);
    void limiter.acquire(gmail);
    const families = await scrape();
    expect(
      [...families.values()].map(({ name, type, series }) => `${type} ${name} ${series.length}`),
    ).toMatchInlineSnapshot(`
      [
        "histogram outbound_limiter_wait_seconds 13",
        "histogram outbound_limiter_held_seconds 13",
        "gauge outbound_limiter_leases 1",
        "gauge outbound_limiter_waiting 1",
        "gauge outbound_limiter_oldest_wait_seconds 1",
        "counter outbound_limiter_grants_total 4",
        "counter outbound_limiter_refusals_total 5",
        "gauge outbound_limiter_reserve_in_use 1",
        "gauge outbound_limiter_reserve_limit 1",
        "gauge outbound_limiter_policy_info 1",
        "counter outbound_limiter_policy_updates_total 1",
        "counter outbound_limiter_policy_reload_failures_total 1",
        "gauge outbound_limiter_policy_outdated 1",
        "gauge outbound_limiter_cluster_down 1",
        "counter outbound_limiter_cluster_lost_leases_total 1",
        "gauge outbound_limiter_scope_limit 2",
        "gauge outbound_limiter_scope_in_use 2",
        "gauge outbound_limiter_scope_fullest_in_use 2",
        "gauge outbound_limiter_scope_full_counters 2",
        "gauge outbound_limiter_scope_waiting 2",
        "gauge outbound_limiter_scope_oldest_wait_seconds 2",
        "counter outbound_limiter_scope_waits_total 2",
        "counter outbound_limiter_scope_wait_seconds_total 2",
        "counter outbound_limiter_scope_refusals_total 2",
      ]
    `);
    for (const { help } of families.values()) expect(help).toMatch(/^[1A-Z].*[^.]$/);
  });

  it("carries whatever a policy holds in its labels", async () => {
    const pattern = String.raw`/^"(a|b)\\\.x$/`;
    const { limiter } = open(
      `domain "${pattern.replaceAll('"', String.raw`\"`)}" { scope_max_outbound_connections = 1 }`,
    );
    const { scrape } = meter(limiter);
    const target = { domain: String.raw`"a\.x` };
    const scope = limiter.explain(target).limits.find(({ option }) => option.startsWith("scope"))?.setAt?.scope;
    expect(scope).toMatch(/\\.*"/);
    limiter.tryAcquire(target);
    expect(scopesIn(await scrape())).toContain(`scope_max_outbound_connections in ${scope}`);
  });

  it("is one in the OpenMetrics format, too", async () => {
    const { limiter } = open("");
    const registry = new Registry<"application/openmetrics-text; version=1.0.0; charset=utf-8">();
    registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    const metrics = prometheusMetrics(limiter, promClient, { registry });
    limiter.tryAcquire(gmail);
    const text = await registry.metrics();
    expect(text).toContain("# TYPE outbound_limiter_policy_updates counter\noutbound_limiter_policy_updates_total 0\n");
    expect(text).toMatch(/# EOF\n$/);
    // prom-client renames its counters in this format: they are taken out all the same.
    metrics[Symbol.dispose]();
    expect(await registry.metrics()).toBe("\n# EOF\n");
  });
});

describe("the numbers", () => {
  const shownAs: { readonly [field in keyof Standing]: readonly [name: string, unit: number] } = {
    limit: ["scope_limit", 1],
    inUse: ["scope_in_use", 1],
    fullest: ["scope_fullest_in_use", 1],
    fullCounters: ["scope_full_counters", 1],
    waiting: ["scope_waiting", 1],
    oldestWait: ["scope_oldest_wait_seconds", 1000],
  };
  const fields = Object.keys(shownAs) as (keyof Standing)[];

  it.each([{ withUpdates: false }, { withUpdates: true }])(
    "are those of snapshot() and of what callers were told, whatever happens: %o",
    { timeout },
    async ({ withUpdates }) => {
      await fc.assert(
        fc.asyncProperty(stories({ withUpdates }), async (drawn) => {
          const story = new Story(drawn);
          const { scrape } = meter(story.limiter);
          for (const [index, move] of drawn.moves.entries()) {
            await story.play(move);
            // Not after each move: what happens between two scrapes must show as well.
            if (index % 3 === 0 || index === drawn.moves.length - 1) check(story, await scrape(), withUpdates);
          }
        }),
        { numRuns },
      );
    },
  );

  function check(story: Story, families: ReadonlyMap<string, Family>, withUpdates: boolean): void {
    const { limiter, told } = story;
    const read = (name: string, labels?: Readonly<Record<string, string>>) =>
      numberOf(families, `outbound_limiter_${name}`, labels);
    const sum = (name: string) =>
      families.get(`outbound_limiter_${name}`)?.series.reduce((total, { value }) => total + value, 0) ?? 0;

    const standings = story.standings();
    for (const [rule, standing] of standings) {
      const { 1: option = "", 2: scope = "" } = /^(\S+) in (.*)$/s.exec(rule) ?? [];
      const isUsed = read("scope_waiting", { option, scope }) !== undefined;
      if (standing.inUse > 0 || standing.waiting > 0) expect(isUsed, rule).toBe(true);
      for (const field of isUsed ? fields : (["limit", "inUse"] as const)) {
        const [name, unit] = shownAs[field];
        expect(read(name, { option, scope }), `${name} of ${rule}`).toBe(standing[field] / unit);
      }
    }
    for (const { labels, value } of families.get("outbound_limiter_scope_in_use")?.series ?? []) {
      if (!standings.has(idOf(labels))) expect(value, idOf(labels)).toBe(0);
    }

    const { leases, waiting, reserve, policy, counters } = limiter.snapshot();
    expect(read("leases")).toBe(leases);
    expect(read("waiting")).toBe(waiting);
    expect(read("oldest_wait_seconds")).toBe(Math.max(0, ...counters.map(({ oldestWait }) => oldestWait)) / 1000);
    expect(read("reserve_in_use")).toBe(reserve.inUse);
    expect(read("reserve_limit")).toBe(reserve.limit === -1 ? Infinity : reserve.limit);
    expect(read("policy_info", { source: policy })).toBe(1);
    expect(read("policy_updates_total")).toBe(told.updates);
    expect(sum("grants_total")).toBe(told.granted);
    expect(read("wait_seconds_count")).toBe(told.granted);
    expect(read("wait_seconds_sum")).toBeCloseTo(told.waitedForLeases / 1000, 6);
    expect(read("held_seconds_count")).toBe(told.released);
    expect(read("held_seconds_sum")).toBeCloseTo(told.held / 1000, 6);
    for (const [error, count] of told.refusals) expect(read("refusals_total", { error }), error).toBe(count);
    expect(sum("refusals_total")).toBe([...told.refusals.values()].reduce((total, count) => total + count, 0));
    // With an update, what an earlier policy made wait is gone with its scopes.
    const waited = (told.waitedForLeases + told.waitedInVain) / 1000;
    if (!withUpdates) expect(sum("scope_wait_seconds_total")).toBeCloseTo(waited, 6);
  }

  it("are read from one look at the counters", async () => {
    const { limiter } = open("");
    const { scrape, registry } = meter(limiter);
    const snapshot = vi.spyOn(limiter, "snapshot");
    limiter.tryAcquire(gmail);
    expect(numberOf(await scrape(), "outbound_limiter_leases")).toBe(1);
    expect(snapshot).toHaveBeenCalledTimes(1);
    limiter.tryAcquire(gmail);
    expect(await registry.getSingleMetricAsString("outbound_limiter_leases")).toMatch(/ 2$/);
    expect(snapshot).toHaveBeenCalledTimes(2);
  });

  it("cost no walk through the line for each event", async () => {
    const { limiter } = open("max_outbound_connections = 1");
    const { read } = meter(limiter);
    const state = {
      key: "max_outbound_connections mta-1 gmail.com @ global",
      ...{ limit: 1, inUse: 1, waiting: 1 },
      get oldestWait(): number {
        throw new Error("Looked up");
      },
    };
    const audience = audienceOf(limiter);
    audience.tell("queued", { target: gmail, blockedBy: [state] });
    audience.tell("granted", { target: gmail, waited: 1500, reserve: false, blockedBy: [state] });
    audience.tell("refused", { target: gmail, waited: 0, error: new Error("enough"), blockedBy: [state] });
    const rule = { option: "max_outbound_connections", scope: "global" };
    expect(await read("scope_wait_seconds_total", rule)).toBe(1.5);
    expect(await read("scope_refusals_total", rule)).toBe(1);
  });

  it("tell grants at once from those after a wait, and those out of the reserve", async () => {
    const { limiter } = open("server_max_outbound_connections = 1\nserver_reserve_outbound_connections = 1");
    const { read } = meter(limiter);
    const first = limiter.tryAcquire(gmail);
    limiter.tryAcquire(orange);
    void limiter.acquire({ domain: "small.example" });
    first?.release();
    await turn();
    const grants = async (waited: boolean, reserve: boolean) =>
      read("grants_total", { waited: String(waited), reserve: String(reserve) });
    expect(await grants(false, false)).toBe(1);
    expect(await grants(false, true)).toBe(1);
    expect((await grants(true, false)) ?? 0).toBe(0);
    expect(await grants(true, true)).toBe(1);
  });
});

describe("a wait", () => {
  const max = { option: "max_outbound_connections", scope: "global" };
  const scopeMax = { option: "scope_max_outbound_connections", scope: 'domain "orange.fr"' };
  const policy = `
    max_outbound_connections = 1
    domain "orange.fr" { scope_max_outbound_connections = 1 }`;

  it("is counted for the limit that caused it, in seconds", async () => {
    const { limiter, clock } = open(policy);
    const { scrape } = meter(limiter);
    const toGmail = await limiter.acquire(gmail);
    const toOrange = await limiter.acquire(orange);
    void limiter.acquire(gmail);
    void limiter.acquire({ binding: "mta-2", domain: "orange.fr" });
    clock.advance(1500);
    toGmail.release();
    clock.advance(60_000);
    toOrange.release();
    await turn();
    const families = await scrape();
    const waits = families.get("outbound_limiter_scope_wait_seconds_total")?.series ?? [];
    expect(waits.filter(({ value }) => value > 0).map(({ labels, value }) => [labels, value])).toEqual([
      [max, 1.5],
      [scopeMax, 61.5],
    ]);
    expect(numberOf(families, "outbound_limiter_scope_waits_total", max)).toBe(1);
    expect(numberOf(families, "outbound_limiter_scope_waits_total", scopeMax)).toBe(1);
    expect(numberOf(families, "outbound_limiter_wait_seconds_sum")).toBe(63);
    expect(numberOf(families, "outbound_limiter_wait_seconds_count")).toBe(4);
    expect(numberOf(families, "outbound_limiter_wait_seconds_bucket", { le: "5" })).toBe(3);
  });

  it("in vain is counted as well, once, with the refusal", async () => {
    const { limiter, clock } = open(`server_max_outbound_connections = 1\n${policy}`, { maxWaiting: 2 });
    const { read } = meter(limiter);
    const lease = await limiter.acquire(orange);
    const controller = new AbortController();
    // Three limits are full for it: the first of them is named.
    limiter.acquire(orange, { timeout: 2000 }).catch(() => {});
    limiter.acquire(orange, { signal: controller.signal }).catch(() => {});
    limiter.acquire(orange).catch(() => {});
    clock.advance(2000);
    limiter.acquire(orange, { timeout: 0 }).catch(() => {});
    clock.advance(1000);
    controller.abort();
    await turn();
    limiter.acquire(orange).catch(() => {});
    clock.advance(500);
    const closed = limiter.close();
    lease.release();
    await closed;
    expect(await read("refusals_total", { error: "ERR_LIMITER_TIMEOUT" })).toBe(2);
    expect(await read("refusals_total", { error: "ERR_LIMITER_QUEUE_FULL" })).toBe(1);
    expect(await read("refusals_total", { error: "aborted" })).toBe(1);
    expect(await read("refusals_total", { error: "ERR_LIMITER_CLOSED" })).toBe(1);
    expect(await read("scope_refusals_total", max)).toBe(5);
    expect(await read("scope_refusals_total", scopeMax)).toBe(0);
    expect(await read("scope_waits_total", max)).toBe(3);
    expect(await read("scope_wait_seconds_total", max)).toBe(2 + 3 + 0.5);
  });

  it("that an update ends is counted for the limit it was for, if that limit is still there", async () => {
    const { limiter, clock } = open(policy);
    const { read } = meter(limiter);
    await limiter.acquire(gmail);
    await limiter.acquire(orange);
    void limiter.acquire(gmail);
    void limiter.acquire({ binding: "mta-2", domain: "orange.fr" });
    clock.advance(3000);
    limiter.update(parsePolicy("max_outbound_connections = 5"));
    await turn();
    expect(limiter.snapshot().waiting).toBe(0);
    expect(await read("scope_wait_seconds_total", max)).toBe(3);
    expect(await read("scope_wait_seconds_total", scopeMax)).toBeUndefined();
    expect(await read("wait_seconds_sum")).toBe(6);
  });
});

describe("a scope", () => {
  const old = `
    max_outbound_connections = 2
    domain "gmail.com" { max_outbound_connections = 5 }`;

  it("is shown with its limit and its use from the start, and with the rest once it was used", async () => {
    const { limiter } = open(`${old}
      binding "mta-2" { server_max_outbound_connections = -1 }
      server_reserve_outbound_connections = 7`);
    const { read, scrape } = meter(limiter);
    expect(scopesIn(await scrape()).sort()).toEqual([
      'max_outbound_connections in domain "gmail.com"',
      "max_outbound_connections in global",
      "server_max_outbound_connections in built-in default",
    ]);
    const rule = { option: "max_outbound_connections", scope: 'domain "gmail.com"' };
    expect([await read("scope_limit", rule), await read("scope_in_use", rule)]).toEqual([5, 0]);
    expect(await read("scope_waiting", rule)).toBeUndefined();
    const lease = await limiter.acquire(gmail);
    expect([await read("scope_in_use", rule), await read("scope_waiting", rule)]).toEqual([1, 0]);
    lease.release();
    expect(limiter.snapshot().counters).toEqual([]);
    expect([await read("scope_in_use", rule), await read("scope_waiting", rule)]).toEqual([0, 0]);
  });

  it.each([
    ["global", "server_max_outbound_connections = 9\nmax_outbound_connections = 8", []],
    ["global by reference", "scope_max_outbound_connections = 9", ["max_outbound_connections"]],
    ["unlimited", "server_max_outbound_connections = -1", ["max_outbound_connections"]],
    [
      "in a stanza",
      'domain "/./" { max_outbound_connections = 8 }',
      ["max_outbound_connections", "server_max_outbound_connections"],
    ],
  ])("that is built in is shown where the policy leaves it in force: %s", async (_, text, options) => {
    const scopes = scopesIn(await meter(open(text).limiter).scrape());
    const builtIn = scopes.filter((scope) => scope.endsWith(" in built-in default"));
    expect(builtIn.sort()).toEqual(options.map((option) => `${option} in built-in default`));
  });

  it("that nobody was let through is shown, too", async () => {
    const { limiter } = open('domain "gmail.com" { max_outbound_connections = 0 }');
    const { read } = meter(limiter);
    await expect(limiter.acquire(gmail, { timeout: 0 })).rejects.toThrow("0 of 0 in use");
    const rule = { option: "max_outbound_connections", scope: 'domain "gmail.com"' };
    expect(await read("scope_limit", rule)).toBe(0);
    expect(await read("scope_refusals_total", rule)).toBe(1);
  });

  it("is gone when a policy without it is in force, and goes on where it stays", async () => {
    const { limiter, clock } = open(old);
    const { scrape } = meter(limiter);
    const stays = { option: "max_outbound_connections", scope: "global" };
    const leases = [await limiter.acquire(orange), await limiter.acquire(orange), await limiter.acquire(gmail)];
    void limiter.acquire(orange);
    clock.advance(1000);
    leases[0]?.release();
    await turn();
    expect(scopesIn(await scrape())).toContain('max_outbound_connections in domain "gmail.com"');

    limiter.update(parsePolicy("max_outbound_connections = 3", { source: "edited.conf" }));
    const families = await scrape();
    expect(scopesIn(families).sort()).toEqual([
      "max_outbound_connections in global",
      "server_max_outbound_connections in built-in default",
    ]);
    expect(numberOf(families, "outbound_limiter_scope_limit", stays)).toBe(3);
    expect(numberOf(families, "outbound_limiter_scope_in_use", stays)).toBe(3);
    expect(numberOf(families, "outbound_limiter_scope_wait_seconds_total", stays)).toBe(1);
    expect(numberOf(families, "outbound_limiter_policy_updates_total")).toBe(1);
    expect(families.get("outbound_limiter_policy_info")?.series.map(({ labels }) => labels)).toEqual([
      { source: "edited.conf" },
    ]);
  });

  it("is one however many names fall into it", { timeout }, async () => {
    const { limiter } = open(`
      server_max_outbound_connections = -1
      binding "mta-1" { server_max_outbound_connections = 100000 }
      domain "/^d[0-9]+[.]example$/" { scope_max_outbound_connections = 90000 }`);
    const { registry, scrape } = meter(limiter);
    const go = (from: number, to: number) =>
      Array.from({ length: to - from }, (_, index) => {
        const name = `d${from + index}.example`;
        return limiter.tryAcquire({
          binding: index % 2 === 0 ? "mta-1" : `b${index % 500}`,
          domain: name,
          host: `mx.${name}`,
        });
      });
    const countOf = async () => [...(await scrape()).values()].reduce((total, { series }) => total + series.length, 0);
    const few = go(0, 10);
    const count = await countOf();
    for (const lease of few) lease?.release();
    const many = go(10, 50_000);
    expect(limiter.snapshot().counters.length).toBeGreaterThan(49_990);
    expect(await countOf()).toBe(count);
    for (const lease of many) lease?.release();
    for (const lease of go(50_000, 100_000)) lease?.release();
    expect(await countOf()).toBe(count);
    expect(await registry.metrics()).not.toMatch(/d\d+\.example|"b\d/);
  });
});

describe("a reload that failed", () => {
  it("is counted, and shows until a policy was put in force", async () => {
    const { limiter } = open("");
    const { read } = meter(limiter);
    const fail = () =>
      audienceOf(limiter).tell("reloadFailed", { policy: "limits.conf", error: new PolicyError([] as never) });
    expect(await read("policy_outdated")).toBe(0);
    fail();
    fail();
    expect(await read("policy_outdated")).toBe(1);
    expect(await read("policy_reload_failures_total")).toBe(2);
    limiter.update(parsePolicy(""));
    expect(await read("policy_outdated")).toBe(0);
    expect(await read("policy_reload_failures_total")).toBe(2);
  });
});

describe("the registry", () => {
  it("is the default one of the module, in either form it is imported", () => {
    for (const module of [promClient, namespace]) {
      const { limiter } = open("");
      using _ = prometheusMetrics(limiter, module);
      expect(promClient.register.getSingleMetric("outbound_limiter_leases")).toBeDefined();
    }
    expect(promClient.register.getMetricsAsArray()).toEqual([]);
  });

  it("may hold two limiters, with a prefix each", async () => {
    const registry = new Registry();
    const limiters = [open("").limiter, open("").limiter];
    for (const [index, limiter] of limiters.entries()) {
      prometheusMetrics(limiter, promClient, { registry, prefix: `mta_${index}_` });
      for (let turns = 0; turns <= index; turns++) limiter.tryAcquire(gmail);
    }
    const families = parseExposition(await registry.metrics());
    expect(numberOf(families, "mta_0_outbound_limiter_leases")).toBe(1);
    expect(numberOf(families, "mta_1_outbound_limiter_leases")).toBe(2);
  });

  it("is left as it was found by dispose, and the limiter not listened to any more", async () => {
    const { limiter } = open("");
    const { registry, metrics, scrape } = meter(limiter);
    const own = new promClient.Gauge({ name: "own", help: "Own", registers: [registry] });
    expect(audienceOf(limiter).wants(CHANNELS.granted)).toBe(true);
    metrics[Symbol.dispose]();
    metrics[Symbol.dispose]();
    expect(registry.getMetricsAsArray()).toEqual([own]);
    expect(audienceOf(limiter).wants(CHANNELS.granted)).toBe(false);
    limiter.tryAcquire(gmail);
    expect([...(await scrape()).keys()]).toEqual(["own"]);
  });

  it("keeps by dispose what somebody else put there since", () => {
    const { limiter } = open("");
    const { registry, metrics } = meter(limiter);
    registry.clear();
    prometheusMetrics(open("").limiter, promClient, { registry });
    const others = registry.getMetricsAsArray();
    metrics[Symbol.dispose]();
    expect(registry.getMetricsAsArray()).toEqual(others);
  });

  it("gets nothing when it has a metric of one of the names", () => {
    const { limiter } = open("");
    const registry = new Registry();
    const taken = "outbound_limiter_scope_refusals_total";
    const own: Metric = new promClient.Counter({ name: taken, help: "Own", registers: [registry] });
    expect(() => prometheusMetrics(limiter, promClient, { registry })).toThrow(`${taken} has already been registered`);
    expect(registry.getMetricsAsArray()).toEqual([own]);
    expect(audienceOf(limiter).wants(CHANNELS.granted)).toBe(false);
  });

  it("of several workers adds up what can be added, and takes the greatest of the rest", async () => {
    const workers = [2, 3].map((connections) => {
      const { limiter, clock } = open("max_outbound_connections = 2");
      const { registry } = meter(limiter);
      for (let count = 0; count < connections; count++) void limiter.acquire(gmail);
      clock.advance(connections * 1000);
      return registry;
    });
    const all = AggregatorRegistry.aggregate(await Promise.all(workers.map((registry) => registry.getMetricsAsJSON())));
    const families = parseExposition(await all.metrics());
    const rule = { option: "max_outbound_connections", scope: "global" };
    expect(numberOf(families, "outbound_limiter_leases")).toBe(4);
    expect(numberOf(families, "outbound_limiter_scope_in_use", rule)).toBe(4);
    expect(numberOf(families, "outbound_limiter_scope_limit", rule)).toBe(2);
    expect(numberOf(families, "outbound_limiter_oldest_wait_seconds")).toBe(3);
    expect(numberOf(families, "outbound_limiter_policy_info", { source: "limits.conf" })).toBe(1);
  });
});

describe("prometheusMetrics", () => {
  const limiter = createLimiter(parsePolicy(""));

  it.each<[string, unknown[], string]>([
    ["what is no limiter", [{}, promClient], "Not a limiter: it has to be made by createLimiter"],
    ["no prom-client", [limiter, undefined], "prometheusMetrics needs prom-client itself"],
    ["a registry in its place", [limiter, new Registry()], "prometheusMetrics needs prom-client itself"],
    ["a registry that is none", [limiter, promClient, { registry: new Map() }], "registry must be a Registry"],
    ["a prefix that is no name", [limiter, promClient, { prefix: "mta-1" }], 'which "mta-1" cannot'],
    ["a prefix that is no string", [limiter, promClient, { prefix: 1 }], "which 1 cannot"],
    ["an option that does not exist", [limiter, promClient, { labels: {} }], "Unknown metrics option labels"],
  ])("refuses %s", (_, args, message) => {
    const call = () => prometheusMetrics(...(args as Parameters<typeof prometheusMetrics>));
    expect(call).toThrow(TypeError);
    expect(call).toThrow(message);
    expect(promClient.register.getMetricsAsArray()).toEqual([]);
  });
});
