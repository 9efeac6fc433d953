#!/usr/bin/env node
// The command `outbound-limiter`.

import { readFileSync } from "node:fs";
import { check } from "./cli/check.js";
import { diff } from "./cli/diff.js";
import { dispatch } from "./cli/dispatch.js";
import { explain } from "./cli/explain.js";
import { simulate } from "./cli/simulate.js";
import { processIo } from "./cli/terminal.js";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  readonly version: string;
};

const status = await dispatch(process.argv.slice(2), processIo(), [check, explain, diff, simulate], version);
// Not process.exit: what is still on its way to a pipe would be lost. A failed write has set it already.
process.exitCode ??= status;
