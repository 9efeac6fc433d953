// What the tests of this folder have in common: a traffic text played against a policy text, and what came of it.

import { parsePolicy } from "../../src/index.js";
import { type Report, reportOf } from "../../src/simulate/report.js";
import { type Run, type RunOptions, simulate } from "../../src/simulate/run.js";
import { parseTraffic } from "../../src/simulate/traffic.js";

const FOR_EVER = Number.POSITIVE_INFINITY;

export async function play(policyText: string, trafficText: string, options: Partial<RunOptions> = {}): Promise<Run> {
  const policy = parsePolicy(policyText);
  const traffic = parseTraffic(trafficText, "traffic.txt", [policy]);
  return simulate(policy, traffic, { seed: 1, end: FOR_EVER, timeout: FOR_EVER, maxWaiting: 100_000, ...options });
}

export async function report(
  policyText: string,
  trafficText: string,
  options: Partial<RunOptions> & { readonly top?: number } = {},
): Promise<Report> {
  const run = await play(policyText, trafficText, options);
  return reportOf(run, parsePolicy(policyText), options.top ?? 20);
}
