// "outbound-limiter/metrics": what a limiter does as metrics, for prom-client and for OpenTelemetry. Instances are passed
// in; neither is a dependency. Labels are what the policy wrote: a million domains make no more series than one.

import { Book, type Labels, type Rule } from "./metrics/book.js";
import { BUCKETS, type Distribution, HOLDS, METRICS, type Metric, prometheusName, WAITS } from "./metrics/list.js";
import { audienceOf } from "./observer.js";
import type { Limiter } from "./types.js";

/** How `prometheusMetrics` names its metrics, and where it registers them. */
export interface PrometheusOptions {
  /**
   * Put in front of every name, as it is. Two limiters on one registry need two prefixes.
   * @default ""
   */
  readonly prefix?: string | undefined;
  /** @default the default registry of the prom-client passed in */
  readonly registry?: object | undefined;
}

// ── prom-client, as far as it is used ────────────────────────────────────────────────────────────

interface PromMetric {
  reset(): void;
  inc(labels: Labels, value: number): void;
}
interface PromRegistry {
  getSingleMetric(name: string): unknown;
  removeSingleMetric(name: string): void;
  registerMetric(metric: object): void;
}
interface PromSettings {
  readonly name: string;
  readonly help: string;
  readonly registers: readonly PromRegistry[];
  readonly labelNames?: readonly string[];
  readonly buckets?: readonly number[];
  /** How the workers of a cluster are made one. */
  readonly aggregator?: "sum" | "max";
  readonly collect?: (this: PromMetric) => void;
}
interface PromClient {
  readonly register: PromRegistry;
  readonly Gauge: new (settings: PromSettings) => object;
  readonly Counter: new (settings: PromSettings) => object;
  readonly Histogram: new (settings: PromSettings) => { observe(value: number): void };
}

/**
 * Registers the metrics of a limiter with prom-client. They are read when the registry is: an event costs a few additions.
 *
 * @param promClient the module, as from `import promClient from "prom-client"`
 * @param options `prefix` and `registry`
 * @returns dispose of it to take all of them out of the registry
 * @throws {TypeError} not a limiter, not prom-client, or an option that does not exist or is wrong
 * @throws {Error} prom-client's own, when the registry has a metric of such a name; then nothing was registered
 * @example
 * prometheusMetrics(limiter, promClient);
 * console.log(await promClient.register.metrics());
 */
export function prometheusMetrics(limiter: Limiter, promClient: object, options: PrometheusOptions = {}): Disposable {
  const audience = audienceOf(limiter);
  if (!has<PromClient>(promClient, ["Gauge", "Counter", "Histogram"])) {
    throw new TypeError('prometheusMetrics needs prom-client itself: import promClient from "prom-client"');
  }
  const { prefix = "", registry = promClient.register, ...others } = options;
  for (const name of Object.keys(others)) throw new TypeError(`Unknown metrics option ${name}`);
  if (typeof prefix !== "string" || !/^(?:[a-z_:][\w:]*)?$/i.test(prefix)) {
    throw new TypeError(`Metrics option prefix must begin a Prometheus name, which ${JSON.stringify(prefix)} cannot`);
  }
  if (!has<PromRegistry>(registry, ["getSingleMetric", "removeSingleMetric", "registerMetric"])) {
    throw new TypeError("Metrics option registry must be a Registry of prom-client");
  }

  const registered = new Map<string, object>();
  const register = <Made extends object>(
    Kind: new (settings: PromSettings) => Made,
    metric: Metric | Distribution,
    settings: Omit<PromSettings, "name" | "help" | "registers">,
  ): Made => {
    const name = prefix + prometheusName(metric);
    const made = new Kind({ ...settings, name, help: metric.help, registers: [registry] });
    registered.set(name, made);
    return made;
  };
  const unregister = (): void => {
    for (const [name, metric] of registered) {
      // Somebody may have cleared the registry since, and have put another there.
      if (registry.getSingleMetric(name) === metric) registry.removeSingleMetric(name);
    }
  };

  try {
    const waits = register(promClient.Histogram, WAITS, { buckets: BUCKETS });
    const holds = register(promClient.Histogram, HOLDS, { buckets: BUCKETS });
    const book = new Book(limiter, {
      waits: (seconds) => waits.observe(seconds),
      holds: (seconds) => holds.observe(seconds),
    });
    for (const metric of METRICS) {
      register(metric.kind === "counter" ? promClient.Counter : promClient.Gauge, metric, {
        labelNames: metric.labels,
        aggregator: metric.kind === "gauge" ? "max" : "sum",
        collect() {
          this.reset();
          for (const { labels, value } of metric.samples(book.read())) this.inc(labels, value);
        },
      });
    }
    const observing = audience.add(book);
    return {
      [Symbol.dispose]() {
        observing[Symbol.dispose]();
        unregister();
      },
    };
  } catch (error) {
    unregister();
    throw error;
  }
}

// ── OpenTelemetry, as far as it is used ──────────────────────────────────────────────────────────

interface OtelSettings {
  readonly description: string;
  readonly unit: string;
  readonly advice?: { readonly explicitBucketBoundaries: readonly number[] };
}
type Create<Instrument> = (name: string, settings: OtelSettings) => Instrument;
interface OtelResult {
  observe(instrument: object, value: number, labels: Labels): void;
}
interface OtelMeter {
  readonly createHistogram: Create<{ record(value: number): void }>;
  readonly createObservableGauge: Create<object>;
  readonly createObservableUpDownCounter: Create<object>;
  readonly createObservableCounter: Create<object>;
  addBatchObservableCallback(callback: (result: OtelResult) => void, instruments: readonly object[]): void;
  removeBatchObservableCallback(callback: (result: OtelResult) => void, instruments: readonly object[]): void;
}

const CREATE = {
  gauge: "createObservableGauge",
  amount: "createObservableUpDownCounter",
  counter: "createObservableCounter",
} as const satisfies { readonly [kind in Metric["kind"]]: keyof OtelMeter };

/**
 * Observes a limiter through a Meter of OpenTelemetry. The limiter is looked at when metrics are collected: an event
 * costs a few additions.
 *
 * @param meter of the API or of an SDK. Two limiters need two meters, of different names: on one, the second would
 *   overwrite what the first says
 * @returns dispose of it to observe no longer; an SDK may go on exporting the last values
 * @throws {TypeError} not a limiter, or not a Meter
 * @example
 * otelMetrics(limiter, metrics.getMeter("outbound-limiter"));
 */
export function otelMetrics(limiter: Limiter, meter: object): Disposable {
  const audience = audienceOf(limiter);
  if (!has<OtelMeter>(meter, [...Object.values(CREATE), "createHistogram", "addBatchObservableCallback"])) {
    throw new TypeError('otelMetrics needs a Meter of OpenTelemetry: metrics.getMeter("outbound-limiter")');
  }
  const advice = { explicitBucketBoundaries: BUCKETS };
  const distribution = ({ name, unit, help }: Distribution): ((seconds: number) => void) => {
    const histogram = meter.createHistogram(name, { description: help, unit, advice });
    return (seconds) => histogram.record(seconds);
  };
  const book = new Book(limiter, {
    waits: distribution(WAITS),
    holds: distribution(HOLDS),
  });
  const instruments = METRICS.map(({ name, kind, unit, help, samples }) => ({
    instrument: meter[CREATE[kind]](name, { description: help, unit }),
    samples,
  }));
  let shown: readonly Rule[] = [];
  const observe = (result: OtelResult): void => {
    const reading = book.read();
    // An SDK goes on exporting what was observed once: a rule that is gone says so, with zeros. Of two with the same
    // labels the last one counts.
    const rules = [...new Set([...shown, ...reading.rules])];
    shown = reading.rules;
    for (const { instrument, samples } of instruments) {
      for (const { labels, value } of samples({ ...reading, rules })) {
        if (Number.isFinite(value)) result.observe(instrument, value, labels);
      }
    }
  };
  const observed = instruments.map(({ instrument }) => instrument);
  meter.addBatchObservableCallback(observe, observed);
  const observing = audience.add(book);
  return {
    [Symbol.dispose]() {
      observing[Symbol.dispose]();
      meter.removeBatchObservableCallback(observe, observed);
    },
  };
}

/** Whether something passed in has the functions that are called. */
function has<Passed extends object>(passed: object, functions: readonly (keyof Passed & string)[]): passed is Passed {
  if ((typeof passed !== "object" && typeof passed !== "function") || passed === null) return false;
  return functions.every((name) => typeof (passed as Partial<Record<string, unknown>>)[name] === "function");
}
