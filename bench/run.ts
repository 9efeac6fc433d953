// `npm run bench`: all parts, the named ones, or `cluster`, those over processes; prints tables, and writes RESULTS.md if
// it was the whole or that half.

import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import type { Outcome } from "./measure.js";
import { measureApart } from "./part.js";
import { PARTS } from "./parts.js";
import { isMissed, isOverProcesses, machine, printOutcome, writeResults } from "./report.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** A short form, to see that it works; writes nothing. */
    quick: { type: "boolean", default: false },
    /** Another build of the library, to compare with; writes nothing. */
    library: { type: "string" },
  },
});

const isHalf = positionals.length === 1 && positionals[0] === "cluster";
const all = Object.keys(PARTS).filter((name) => !isHalf || isOverProcesses(name));
const names = positionals.length > 0 && !isHalf ? positionals : all;
for (const name of names) {
  if (PARTS[name] === undefined) throw new TypeError(`No part ${name}; there are ${Object.keys(PARTS).join(", ")}`);
}
const library = (
  options.library === undefined ? new URL("../dist/index.js", import.meta.url) : pathToFileURL(options.library)
).href;

console.log(machine());
const outcomes = new Map<string, Outcome>();
for (const [at, name] of names.entries()) {
  process.stderr.write(`\n${at + 1} of ${names.length}: ${name} …`);
  const start = performance.now();
  const outcome = await measureApart({ name, quick: options.quick, library });
  process.stderr.write(` ${Math.round((performance.now() - start) / 1000)} s\n`);
  outcomes.set(name, outcome);
  printOutcome(name, outcome);
}
const figures = [...outcomes.values()].flatMap((outcome) => outcome.figures);
console.log(`\n${figures.filter(isMissed).length} goals missed`);
if ((positionals.length === 0 || isHalf) && !options.quick && options.library === undefined) writeResults(outcomes);
