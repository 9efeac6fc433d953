// outbound-limiter simulate: a policy against traffic, in virtual time: how full the limits were, and who waited.

import { writeFile } from "node:fs/promises";
import type { Milliseconds, Policy } from "../index.js";
import { reasonOf } from "../policy/load.js";
import { htmlOf, svgOf } from "../simulate/picture.js";
import { reportOf } from "../simulate/report.js";
import { simulate as play, type Run, type RunOptions } from "../simulate/run.js";
import { inTime, textOf } from "../simulate/text.js";
import { type Flow, parseTraffic, timeOf } from "../simulate/traffic.js";
import { readArguments, readOperands } from "./arguments.js";
import { type Command, Trouble, UsageError } from "./command.js";
import { checkInputs, nameOf, readPolicy, readText } from "./files.js";

const HELP = `Plays traffic against a policy in virtual time, with the limiter itself, much faster than real time: how
full each limit was, what waiting it caused, how long each domain waited, and who was never admitted.

Usage: outbound-limiter simulate [OPTION]… FILE --traffic TRAFFIC

FILE is a policy, read with its includes; - is the standard input.

TRAFFIC has a line for each flow of requests, or for each connection of a log:

  # DOMAIN     [binding= group= host=]  when                      how long a session takes
  gmail.com    binding=bulk-1           rate=20/s                 duration=~2s
  yahoo.com    host=mx.yahoo.example    rate=100/h end=30m        duration=1.5s
  orange.fr                             start=10m count=500       duration=2s
  gmail.com    binding=bulk-1           start=1896082200.25s      duration=1.7s

  rate=N/s /m /h /d   requests at random, so many in the mean; from start= (0s) until end=
  count=N             so many requests at once, at start=; with rate= the most there are. Neither: one request
  start= end=         250ms, 1.5s, 10m, 1h, 1d, since any moment; the earliest start is the beginning
  duration=           2s; ~2s: at random, 2s in the mean (exponential)

Options:
  --traffic FILE     the traffic; - is the standard input
  --against FILE     another policy for the same traffic; what it changes as "before → after"; –: not in the first rows
  --for TIME         ends after that time, whoever still waits; without it when all is over, or after 1h if a rate
                     has no end
  --seed N           other random moments and durations; the same seed is the same traffic [1]
  --timeout TIME     requests give up after waiting that long
  --max-waiting N    most requests that wait at a time, as of createLimiter [100000]
  --top N            most rows of a table [20]
  --svg FILE         a picture: use of the costliest limits over time, waits by domain
  --html FILE        the picture and the tables, as one page
  --ignore-unknown   skip options and stanzas of the policies that are not ours
  --json             the report as data, times in milliseconds
  --help             this text

Exit status: 0 it was played, 2 a file cannot be used.

Examples:
  outbound-limiter simulate limits.conf --traffic traffic.txt --for 1h
  outbound-limiter simulate limits.conf --against raised.conf --traffic traffic.txt --html report.html
  outbound-limiter simulate limits.conf --traffic log.txt --json | jq '.runs[0].limits[0]'
`;

const OPTIONS = {
  traffic: { type: "string" },
  against: { type: "string" },
  for: { type: "string" },
  seed: { type: "string" },
  timeout: { type: "string" },
  "max-waiting": { type: "string" },
  top: { type: "string" },
  svg: { type: "string" },
  html: { type: "string" },
  "ignore-unknown": { type: "boolean" },
  json: { type: "boolean" },
} as const;

/** How many limits the picture shows. */
const MOST_PANELS = 6;
const MOST_ROWS = 1000;
const HOUR: Milliseconds = 3_600_000;

export const simulate: Command = {
  name: "simulate",
  summary: "plays traffic against a policy: what would wait, how long, for which limit",
  help: HELP,
  async run(args, io) {
    const { values, positionals } = readArguments(args, OPTIONS);
    const [path] = readOperands(positionals, ["FILE"]);
    if (values.traffic === undefined) throw new UsageError("--traffic FILE is missing");
    const top = wholeOf("--top", values.top, 1, MOST_ROWS) ?? 20;
    const seed = wholeOf("--seed", values.seed, 0, 2 ** 31) ?? 1;
    const settings = {
      seed,
      timeout: timeIn("--timeout", values.timeout) ?? Number.POSITIVE_INFINITY,
      maxWaiting: wholeOf("--max-waiting", values["max-waiting"], 0, Number.MAX_SAFE_INTEGER) ?? 100_000,
    };
    const until = timeIn("--for", values.for);
    const paths = values.against === undefined ? [path] : [path, values.against];
    checkInputs([...paths, values.traffic]);

    const policies: Policy[] = [];
    for (const one of paths) policies.push(await readPolicy(one, io, values["ignore-unknown"]));
    const traffic = parseTraffic(await readText(values.traffic, io), nameOf(values.traffic), policies);
    const end = until ?? (traffic.flows.some(isEndless) ? HOUR : Number.POSITIVE_INFINITY);
    const playAll = async (options: Pick<RunOptions, "end" | "curves">): Promise<Run[]> => {
      const runs: Run[] = [];
      for (const policy of policies) {
        const progress = (now: Milliseconds, events: number): void =>
          io.progress(`${policy.source}: ${inTime(now)} played, ${events} events`);
        runs.push(await play(policy, traffic, { ...settings, ...options, progress }));
      }
      return runs;
    };

    const before = performance.now();
    const runs = await playAll({ end });
    const speed = speedOf(runs, (performance.now() - before) / 1000);
    const reports = runs.map((run, index) => reportOf(run, policies[index] as Policy, top));
    const title = `${policies.map(({ source }) => source).join(" → ")} with ${traffic.source}, seed ${seed}`;
    if (values.svg !== undefined || values.html !== undefined) {
      // Which limits are worth a curve is known only now. The same seed is the same run.
      const keys = reports.flatMap(({ limits }) => limits.slice(0, MOST_PANELS).map(({ key }) => key));
      const span = Math.max(1, ...runs.map((run) => run.span));
      const picture = svgOf(title, reports, await playAll({ end: span, curves: new Set(keys) }));
      if (values.svg !== undefined) await write(values.svg, picture);
      if (values.html !== undefined) await write(values.html, htmlOf(title, picture, textOf(reports)));
    }
    if (values.json) {
      const report = { traffic: traffic.source, seed, speed, runs: reports };
      io.stdout.write(`${JSON.stringify(report, (_, value) => value ?? null, 2)}\n`);
    } else {
      io.stdout.write(`${io.stdout.paint("bold", title)}\n${textOf(reports)}\n${speedText(speed)}\n`);
    }
    return 0;
  },
};

const isEndless = ({ count, end }: Flow): boolean =>
  count === Number.POSITIVE_INFINITY && end === Number.POSITIVE_INFINITY;

function timeIn(option: string, value: string | undefined): Milliseconds | undefined {
  const time = value === undefined ? undefined : timeOf(value);
  if (value !== undefined && time === undefined)
    throw new UsageError(`${option} is a time, as in 90s or 1h, not ${value}`);
  return time;
}

function wholeOf(option: string, value: string | undefined, least: number, most: number): number | undefined {
  if (value === undefined) return undefined;
  const number = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw new UsageError(`${option} is a whole number from ${least} to ${most}, not ${value}`);
}

/** @throws {Trouble} it cannot be written */
async function write(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text);
  } catch (error) {
    throw new Trouble(`${path}: cannot write it: ${reasonOf(error)}`);
  }
}

function speedOf(runs: readonly Run[], seconds: number) {
  const events = runs.reduce((sum, run) => sum + run.events, 0);
  const virtual = runs.reduce((sum, run) => sum + run.span, 0) / 1000;
  return { seconds, events, eventsPerSecond: events / seconds, timesReal: virtual / seconds };
}

function speedText({ seconds, events, eventsPerSecond, timesReal }: ReturnType<typeof speedOf>): string {
  const [times, all, each] = [timesReal, events, eventsPerSecond].map((value) =>
    Math.round(value).toLocaleString("en"),
  );
  return `Played in ${seconds.toFixed(1)} s, ${times} times as fast as real: ${all} events, ${each} a second.`;
}
