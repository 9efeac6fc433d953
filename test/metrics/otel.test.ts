// otelMetrics with the real SDK of OpenTelemetry: what is exported, and that it is true.
import { metrics as api } from "@opentelemetry/api";
import {
  AggregationTemporality,
  DataPointType,
  MeterProvider,
  type MetricData,
  MetricReader,
} from "@opentelemetry/sdk-metrics";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { createLimiter, type LocalLimiter, parsePolicy, type Target } from "../../src/index.js";
import { otelMetrics } from "../../src/metrics.js";
import { audienceOf, CHANNELS } from "../../src/observer.js";
import { open, turn } from "../table/open.js";
import { idOf, type Standing, Story, stories } from "./stories.js";

const scale = Number(process.env["FUZZ_RUNS"] ?? 1000) / 1000;
const numRuns = Math.max(1, Math.round(30 * scale));
const timeout = 60_000 + 60_000 * scale;

const gmail: Target = { binding: "mta-1", domain: "gmail.com" };

class Reader extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

type Labels = Readonly<Record<string, unknown>>;

/** What one collection exported. */
class Exported {
  readonly data: readonly MetricData[];

  constructor(data: readonly MetricData[]) {
    this.data = data;
  }

  points(name: string): { readonly labels: Labels; readonly value: number }[] {
    const found = this.data.find(({ descriptor }) => descriptor.name === `outbound_limiter.${name}`);
    if (found === undefined || found.dataPointType === DataPointType.HISTOGRAM) return [];
    return found.dataPoints.map(({ attributes, value }) => ({ labels: attributes, value: value as number }));
  }

  number(name: string, labels: Labels = {}): number | undefined {
    const wanted = JSON.stringify(labels);
    return this.points(name).find((point) => JSON.stringify(point.labels) === wanted)?.value;
  }

  sum(name: string): number {
    return this.points(name).reduce((total, { value }) => total + value, 0);
  }

  /** How many values a distribution has, and their sum. */
  distribution(name: string): { readonly count: number; readonly sum: number } {
    const found = this.data.find(({ descriptor }) => descriptor.name === `outbound_limiter.${name}`);
    if (found?.dataPointType !== DataPointType.HISTOGRAM) return { count: 0, sum: 0 };
    const [point, ...others] = found.dataPoints;
    if (point === undefined || others.length > 0) throw new Error(`${name} is not one distribution`);
    return { count: point.value.count, sum: point.value.sum ?? 0 };
  }
}

function meter(limiter: LocalLimiter, temporality = AggregationTemporality.CUMULATIVE) {
  const reader = new Reader({ aggregationTemporalitySelector: () => temporality });
  const provider = new MeterProvider({ readers: [reader] });
  const metrics = otelMetrics(limiter, provider.getMeter("outbound-limiter"));
  const collect = async (): Promise<Exported> => {
    const { resourceMetrics, errors } = await reader.collect();
    expect(errors).toEqual([]);
    return new Exported(resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics));
  };
  return { provider, metrics, collect };
}

describe("what is exported", () => {
  it("has these names, kinds and units", async () => {
    const { limiter } = open("max_outbound_connections = 1");
    const { collect } = meter(limiter);
    const lease = await limiter.acquire(gmail);
    void limiter.acquire(gmail);
    lease.release();
    const { data } = await collect();
    const kindOf = (metric: MetricData): string => {
      if (metric.dataPointType !== DataPointType.SUM) return DataPointType[metric.dataPointType] ?? "";
      return metric.isMonotonic ? "COUNTER" : "AMOUNT";
    };
    expect(
      data.map((metric) => {
        const { descriptor, dataPoints } = metric;
        return `${kindOf(metric)} ${descriptor.name} ${descriptor.unit} ${dataPoints.length}`;
      }),
    ).toMatchInlineSnapshot(`
      [
        "HISTOGRAM outbound_limiter.wait s 1",
        "HISTOGRAM outbound_limiter.held s 1",
        "AMOUNT outbound_limiter.leases {lease} 1",
        "AMOUNT outbound_limiter.waiting {request} 1",
        "GAUGE outbound_limiter.oldest_wait s 1",
        "COUNTER outbound_limiter.grants {lease} 4",
        "COUNTER outbound_limiter.refusals {request} 5",
        "AMOUNT outbound_limiter.reserve.in_use {lease} 1",
        "GAUGE outbound_limiter.reserve.limit {lease} 1",
        "GAUGE outbound_limiter.policy.info {policy} 1",
        "COUNTER outbound_limiter.policy.updates {update} 1",
        "COUNTER outbound_limiter.policy.reload_failures {reload} 1",
        "GAUGE outbound_limiter.policy.outdated {policy} 1",
        "GAUGE outbound_limiter.cluster.down {engine} 1",
        "COUNTER outbound_limiter.cluster.lost_leases {lease} 1",
        "GAUGE outbound_limiter.scope.limit {connection} 2",
        "AMOUNT outbound_limiter.scope.in_use {connection} 2",
        "GAUGE outbound_limiter.scope.fullest_in_use {connection} 2",
        "AMOUNT outbound_limiter.scope.full_counters {counter} 2",
        "AMOUNT outbound_limiter.scope.waiting {request} 2",
        "GAUGE outbound_limiter.scope.oldest_wait s 2",
        "COUNTER outbound_limiter.scope.waits {request} 2",
        "COUNTER outbound_limiter.scope.wait s 2",
        "COUNTER outbound_limiter.scope.refusals {request} 2",
      ]
    `);
    for (const { descriptor } of data) expect(descriptor.description).toMatch(/^[1A-Z].*[^.]$/);
  });
});

describe("the numbers", () => {
  const shownAs: { readonly [field in keyof Standing]: readonly [name: string, unit: number] } = {
    limit: ["scope.limit", 1],
    inUse: ["scope.in_use", 1],
    fullest: ["scope.fullest_in_use", 1],
    fullCounters: ["scope.full_counters", 1],
    waiting: ["scope.waiting", 1],
    oldestWait: ["scope.oldest_wait", 1000],
  };

  it.each([AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])(
    "are those of snapshot() and of what callers were told, whatever happens, with temporality %i",
    { timeout },
    async (temporality) => {
      await fc.assert(
        fc.asyncProperty(stories({ withUpdates: true }), async (drawn) => {
          const story = new Story(drawn);
          const { collect } = meter(story.limiter, temporality);
          const totals = new Map<string, number>();
          for (const [index, move] of drawn.moves.entries()) {
            await story.play(move);
            if (index % 3 === 0 || index === drawn.moves.length - 1) check(story, await collect(), totals);
          }
        }),
        { numRuns },
      );

      function check(story: Story, exported: Exported, totals: Map<string, number>): void {
        const { limiter, told } = story;
        /** What was exported up to now: of deltas, all together. */
        const total = (name: string, now: number): number => {
          const before = temporality === AggregationTemporality.DELTA ? (totals.get(name) ?? 0) : 0;
          totals.set(name, before + now);
          return before + now;
        };
        const amounts = new Map<string, number>();
        for (const [name] of [shownAs.inUse, shownAs.fullCounters, shownAs.waiting]) {
          for (const { labels, value } of exported.points(name)) {
            const series = `${name} of ${idOf(labels)}`;
            amounts.set(series, total(series, value));
          }
        }
        const standings = story.standings();
        for (const [rule, standing] of standings) {
          const { 1: option = "", 2: scope = "" } = /^(\S+) in (.*)$/s.exec(rule) ?? [];
          const isUsed = exported.number("scope.oldest_wait", { option, scope }) !== undefined;
          if (standing.inUse > 0 || standing.waiting > 0) expect(isUsed, rule).toBe(true);
          expect(exported.number("scope.limit", { option, scope }), rule).toBe(standing.limit);
          if (!isUsed) continue;
          for (const field of ["fullest", "oldestWait"] as const) {
            const [name, unit] = shownAs[field];
            expect(exported.number(name, { option, scope }), `${name} of ${rule}`).toBe(standing[field] / unit);
          }
          for (const field of ["inUse", "fullCounters", "waiting"] as const) {
            const series = `${shownAs[field][0]} of ${rule}`;
            expect(amounts.get(series), series).toBe(standing[field]);
          }
        }
        // What only a policy before has may still be there, with nothing in use.
        for (const { labels, value } of exported.points("scope.fullest_in_use")) {
          if (standings.has(idOf(labels))) continue;
          expect(value, idOf(labels)).toBe(0);
          expect(amounts.get(`scope.in_use of ${idOf(labels)}`), idOf(labels)).toBe(0);
        }

        const { leases, waiting, reserve } = limiter.snapshot();
        expect(total("leases", exported.sum("leases"))).toBe(leases);
        expect(total("waiting", exported.sum("waiting"))).toBe(waiting);
        expect(total("reserve.in_use", exported.sum("reserve.in_use"))).toBe(reserve.inUse);
        expect(total("policy.updates", exported.sum("policy.updates"))).toBe(told.updates);
        expect(total("grants", exported.sum("grants"))).toBe(told.granted);
        for (const error of ["ERR_LIMITER_TIMEOUT", "ERR_LIMITER_QUEUE_FULL", "aborted"]) {
          const now = exported.number("refusals", { error }) ?? 0;
          expect(total(error, now), error).toBe(told.refusals.get(error) ?? 0);
        }
        const waits = exported.distribution("wait");
        const holds = exported.distribution("held");
        expect(total("wait", waits.count)).toBe(told.granted);
        expect(total("wait sum", waits.sum)).toBeCloseTo(told.waitedForLeases / 1000, 6);
        expect(total("held", holds.count)).toBe(told.released);
        expect(total("held sum", holds.sum)).toBeCloseTo(told.held / 1000, 6);
      }
    },
  );

  it("are read from one look at the counters", async () => {
    const { limiter } = open("");
    const { collect } = meter(limiter);
    const snapshot = vi.spyOn(limiter, "snapshot");
    limiter.tryAcquire(gmail);
    expect((await collect()).number("leases")).toBe(1);
    expect(snapshot).toHaveBeenCalledTimes(1);
  });

  it("of an unlimited reserve are none", async () => {
    const { limiter } = open("server_reserve_outbound_connections = -1");
    expect((await meter(limiter).collect()).points("reserve.limit")).toEqual([]);
  });
});

describe("a scope", () => {
  const rule = { option: "max_outbound_connections", scope: 'domain "gmail.com"' };

  it("has the seconds waited for it", async () => {
    const { limiter, clock } = open('domain "gmail.com" { max_outbound_connections = 1 }');
    const { collect } = meter(limiter);
    const lease = await limiter.acquire(gmail);
    void limiter.acquire(gmail);
    clock.advance(2500);
    lease.release();
    await turn();
    const exported = await collect();
    expect(exported.number("scope.wait", rule)).toBe(2.5);
    expect(exported.number("scope.waits", rule)).toBe(1);
  });

  it.each([AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])(
    "that is gone has nothing in use, also if it went twice between two collections; temporality %i",
    async (temporality) => {
      const { limiter } = open('domain "gmail.com" { max_outbound_connections = 1 }');
      const { collect } = meter(limiter, temporality);
      const other = { option: "max_outbound_connections", scope: "global" };
      limiter.tryAcquire(gmail);
      void limiter.acquire(gmail);
      const before = await collect();
      expect([before.number("scope.in_use", rule), before.number("scope.waiting", rule)]).toEqual([1, 1]);
      limiter.update(parsePolicy("max_outbound_connections = 7"));
      limiter.update(parsePolicy("max_outbound_connections = 8"));
      const after = await collect();
      const isDelta = temporality === AggregationTemporality.DELTA;
      expect(after.number("scope.in_use", rule)).toBe(isDelta ? -1 : 0);
      expect(after.number("scope.waiting", rule)).toBe(isDelta ? -1 : 0);
      expect(after.number("scope.fullest_in_use", rule)).toBe(0);
      expect(after.number("scope.limit", other)).toBe(8);
      expect(after.number("scope.in_use", other)).toBe(2);
      // From then on it is not observed any more; what an SDK makes of that is its own affair.
      if (isDelta) expect((await collect()).number("scope.fullest_in_use", rule)).toBeUndefined();
    },
  );

  it("that is back is observed as it is, and not as it was", async () => {
    const text = 'domain "gmail.com" { max_outbound_connections = 1 }';
    const { limiter } = open(text);
    const { collect } = meter(limiter);
    limiter.tryAcquire(gmail);
    await collect();
    for (const next of ["", "", text]) limiter.update(parsePolicy(next));
    const exported = await collect();
    expect(exported.number("scope.in_use", rule)).toBe(1);
    expect(exported.number("scope.fullest_in_use", rule)).toBe(1);
  });

  it("is one however many names fall into it", { timeout }, async () => {
    const { limiter } = open("server_max_outbound_connections = -1");
    const { collect } = meter(limiter);
    const countOf = async () => (await collect()).data.reduce((total, { dataPoints }) => total + dataPoints.length, 0);
    const go = (from: number, to: number) => {
      for (let index = from; index < to; index++) {
        const lease = limiter.tryAcquire({ binding: `b${index % 500}`, domain: `d${index}.example` });
        if (index % 2 === 0) lease?.release();
      }
    };
    go(0, 10);
    const count = await countOf();
    go(10, 100_000);
    expect(limiter.snapshot().counters).toHaveLength(50_000);
    expect(await countOf()).toBe(count);
  });
});

describe("otelMetrics", () => {
  it("stops observing when it is disposed of", async () => {
    const { limiter } = open("");
    const { metrics, collect } = meter(limiter, AggregationTemporality.DELTA);
    limiter.tryAcquire(gmail);
    expect((await collect()).number("leases")).toBe(1);
    metrics[Symbol.dispose]();
    metrics[Symbol.dispose]();
    expect(audienceOf(limiter).wants(CHANNELS.granted)).toBe(false);
    limiter.tryAcquire(gmail);
    expect((await collect()).data).toEqual([]);
  });

  it("tells two limiters apart by their meters", async () => {
    const reader = new Reader();
    const provider = new MeterProvider({ readers: [reader] });
    for (const [index, name] of ["mta.bulk", "mta.mail"].entries()) {
      const { limiter } = open("");
      otelMetrics(limiter, provider.getMeter(name));
      for (let turns = 0; turns <= index; turns++) limiter.tryAcquire(gmail);
    }
    const { resourceMetrics } = await reader.collect();
    const leases = resourceMetrics.scopeMetrics.map(({ scope, metrics }) => [
      scope.name,
      new Exported(metrics).number("leases"),
    ]);
    expect(leases).toEqual([
      ["mta.bulk", 1],
      ["mta.mail", 2],
    ]);
  });

  it("costs nothing to leave in where no SDK is set up", () => {
    const { limiter } = open("");
    using _ = otelMetrics(limiter, api.getMeter("outbound-limiter"));
    expect(limiter.tryAcquire(gmail)).toBeDefined();
  });

  it.each<[string, unknown[], string]>([
    ["what is no limiter", [{}, api.getMeter("x")], "Not a limiter: it has to be made by createLimiter"],
    ["no meter", [createLimiter(parsePolicy("")), undefined], "otelMetrics needs a Meter"],
    ["a provider in its place", [createLimiter(parsePolicy("")), new MeterProvider()], "otelMetrics needs a Meter"],
  ])("refuses %s", (_, args, message) => {
    const call = () => otelMetrics(...(args as Parameters<typeof otelMetrics>));
    expect(call).toThrow(TypeError);
    expect(call).toThrow(message);
  });
});
