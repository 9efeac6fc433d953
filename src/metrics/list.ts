// The metrics: names, units and where the numbers come from. Both adapters read this list.

import type { Labels, Reading, Rule, Sample } from "./book.js";

/** What every name begins with. */
const NAMESPACE = "outbound_limiter";

/** One metric. Its name is OpenTelemetry's; that of Prometheus follows from it, the unit and the kind. */
export interface Metric {
  readonly name: string;
  /** Amounts add up, over scopes or processes. Gauges do not: of several, the greatest tells. */
  readonly kind: "gauge" | "amount" | "counter";
  /** Seconds, or what is counted. */
  readonly unit: "s" | `{${string}}`;
  readonly help: string;
  readonly labels: readonly string[];
  /** Infinity: not limited. */
  readonly samples: (reading: Reading) => Iterable<Sample>;
}

type Head = readonly [name: string, kind: Metric["kind"], unit: Metric["unit"], help: string];

const metric = ([name, kind, unit, help]: Head, labels: readonly string[], samples: Metric["samples"]): Metric => ({
  name: `${NAMESPACE}.${name}`,
  kind,
  unit,
  help,
  labels,
  samples,
});

const NO_LABELS: Labels = {};

const overall = (head: Head, value: (reading: Reading) => number): Metric =>
  metric(head, [], (reading) => [{ labels: NO_LABELS, value: value(reading) }]);

const ofEachScope = (head: Head, value: (rule: Rule) => number): Metric =>
  metric(head, ["option", "scope"], ({ rules }) => rules.map((rule) => ({ labels: rule.labels, value: value(rule) })));

/** Of those that mail goes to: a policy may have ten thousand to which none does. */
const ofUsedScope = (head: Head, value: (rule: Rule) => number): Metric => {
  const each = ofEachScope(head, value);
  return {
    ...each,
    samples: (reading) => each.samples({ ...reading, rules: reading.rules.filter(({ isUsed }) => isUsed) }),
  };
};

export const METRICS: readonly Metric[] = [
  overall(["leases", "amount", "{lease}", "Leases held"], ({ snapshot }) => snapshot.leases),
  overall(["waiting", "amount", "{request}", "Requests waiting"], ({ snapshot }) => snapshot.waiting),
  overall(
    ["oldest_wait", "gauge", "s", "How long the oldest waiting request has waited"],
    ({ oldestWait }) => oldestWait / 1000,
  ),
  metric(
    ["grants", "counter", "{lease}", "Leases given: at once or after a wait, and whether out of the reserve"],
    ["waited", "reserve"],
    ({ book }) => book.grants,
  ),
  metric(
    ["refusals", "counter", "{request}", "Requests that ended without a lease, by the code of their error"],
    ["error"],
    ({ book }) => book.refusals.values(),
  ),
  overall(
    ["reserve.in_use", "amount", "{lease}", "Leases given out of the reserve and still held"],
    ({ snapshot }) => snapshot.reserve.inUse,
  ),
  overall(["reserve.limit", "gauge", "{lease}", "Size of the reserve"], ({ snapshot: { reserve } }) =>
    reserve.limit === -1 ? Number.POSITIVE_INFINITY : reserve.limit,
  ),

  metric(["policy.info", "gauge", "{policy}", "1, and the name of the policy in force"], ["source"], ({ snapshot }) => [
    { labels: { source: snapshot.policy }, value: 1 },
  ]),
  overall(
    ["policy.updates", "counter", "{update}", "Policies put in force after the first"],
    ({ book }) => book.updates,
  ),
  overall(
    ["policy.reload_failures", "counter", "{reload}", "Edited policies that could not be used"],
    ({ book }) => book.reloadFailures,
  ),
  overall(
    [
      "policy.outdated",
      "gauge",
      "{policy}",
      "1 if the last edited policy could not be used and an older one is in force",
    ],
    ({ book }) => (book.isOutdated ? 1 : 0),
  ),

  overall(
    ["cluster.down", "gauge", "{engine}", "1 while the engine of the cluster does not answer, or learns what it lost"],
    ({ book }) => (book.isClusterDown ? 1 : 0),
  ),
  overall(
    ["cluster.lost_leases", "counter", "{lease}", "Leases lost to the cluster, whose connections had to be closed"],
    ({ book }) => book.lostLeases,
  ),

  ofEachScope(
    ["scope.limit", "gauge", "{connection}", "Most connections that each counter of the limit admits"],
    ({ limit }) => limit,
  ),
  ofEachScope(
    [
      "scope.in_use",
      "amount",
      "{connection}",
      "Connections this process has open under the limit, in all of its counters",
    ],
    ({ inUse }) => inUse,
  ),
  ofUsedScope(
    [
      "scope.fullest_in_use",
      "gauge",
      "{connection}",
      "Connections open under the fullest counter of the limit, by all who share it",
    ],
    ({ fullest }) => fullest,
  ),
  ofUsedScope(
    ["scope.full_counters", "amount", "{counter}", "Counters of the limit that are full"],
    ({ fullCounters }) => fullCounters,
  ),
  ofUsedScope(
    ["scope.waiting", "amount", "{request}", "Requests that the limit holds up now; several limits may hold up one"],
    ({ waiting }) => waiting,
  ),
  ofUsedScope(
    ["scope.oldest_wait", "gauge", "s", "How long the oldest request that the limit holds up has waited"],
    ({ oldestWait }) => oldestWait / 1000,
  ),
  ofUsedScope(
    [
      "scope.waits",
      "counter",
      "{request}",
      "Requests that waited, and at last for this limit, until they had a lease or none",
    ],
    ({ waits }) => waits,
  ),
  ofUsedScope(["scope.wait", "counter", "s", "How long those requests waited in all"], ({ waited }) => waited / 1000),
  ofUsedScope(
    ["scope.refusals", "counter", "{request}", "Requests that ended without a lease while this limit was full"],
    ({ refusals }) => refusals,
  ),
];

/** A metric that is told value by value. */
export interface Distribution {
  readonly name: string;
  readonly unit: "s";
  readonly help: string;
}

export const WAITS: Distribution = {
  name: `${NAMESPACE}.wait`,
  unit: "s",
  help: "How long requests waited until they had their lease",
};
export const HOLDS: Distribution = { name: `${NAMESPACE}.held`, unit: "s", help: "How long leases were held" };

/** Upper ends of their buckets, in seconds: from a connection refused at once to one kept open for an hour. */
export const BUCKETS: readonly number[] = [0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600];

/** The name in Prometheus: with the unit, and `total` for what only grows. */
export function prometheusName(metric: Metric | Distribution): string {
  const unit = metric.unit === "s" ? "_seconds" : "";
  const total = "kind" in metric && metric.kind === "counter" ? "_total" : "";
  return `${metric.name.replaceAll(".", "_")}${unit}${total}`;
}
