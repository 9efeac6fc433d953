// outbound-limiter explain: which limits hold for a target and why, from the policy alone.

import { createLimiter, type Explanation, type Limiter, type Target } from "../index.js";
import { readArguments, readOperands } from "./arguments.js";
import { type Command, Trouble, UsageError } from "./command.js";
import { readPolicy } from "./files.js";

const HELP = `Says which limits a policy sets for connections to a domain, where each was written, and which other values it
comes before. Nothing has to run: what is in use is that of a limiter just started.

Usage: outbound-limiter explain [OPTION]… FILE --domain DOMAIN

FILE is read with its includes; - is the standard input.

Options:
  --domain DOMAIN    the recipient domain, or an address
  --host HOST        the MX host that is dialled; without it host stanzas do not count
  --binding BINDING  the binding it leaves from; without it "default"
  --group GROUP      the binding group; without it the one that the policy has the binding in, else "default"
  --ignore-unknown   skip options and stanzas that are not ours: reads a whole ecelerity.conf
  --json             the explanation as data: for each limit option, counts, limit, setAt (null: built-in default) and
                     lookedAt, all scopes that were asked, most specific first
  --help             this text

Exit status: 0 it was answered, 2 the policy cannot be used or the target makes no sense.

Examples:
  outbound-limiter explain limits.conf --domain gmail.com
  outbound-limiter explain limits.conf --domain orange.fr --binding bulk-1 --host smtp-in.orange.fr
  outbound-limiter explain --json limits.conf --domain gmail.com | jq '.limits[] | {option, limit, setAt}'
`;

const OPTIONS = {
  domain: { type: "string" },
  host: { type: "string" },
  binding: { type: "string" },
  group: { type: "string" },
  "ignore-unknown": { type: "boolean" },
  json: { type: "boolean" },
} as const;

export const explain: Command = {
  name: "explain",
  summary: "says which limits hold for a target, and why",
  help: HELP,
  async run(args, io) {
    const { values, positionals } = readArguments(args, OPTIONS);
    const [path] = readOperands(positionals, ["FILE"]);
    const { domain, host, binding, group: bindingGroup } = values;
    if (domain === undefined) throw new UsageError("--domain DOMAIN is missing");
    const policy = await readPolicy(path, io, values["ignore-unknown"]);
    const explanation = explained(createLimiter(policy), { domain, binding, bindingGroup, host });
    if (values.json) {
      io.stdout.write(`${JSON.stringify(explanation, (_, value) => value ?? null, 2)}\n`);
      return 0;
    }
    const [heading = "", ...rest] = String(explanation).split("\n");
    // Where a limit comes from stands on a line of its own below it, further in.
    const lines = rest.map((line) => (line.startsWith("   ") ? io.stdout.paint("dim", line) : line));
    io.stdout.write(`${[io.stdout.paint("bold", heading), ...lines].join("\n")}\n`);
    return 0;
  },
};

/** @throws {Trouble} the target is malformed, or contradicts the policy */
export function explained(limiter: Limiter, target: Target): Explanation {
  try {
    return limiter.explain(target);
  } catch (error) {
    if (error instanceof TypeError) throw new Trouble(error.message);
    throw error;
  }
}
