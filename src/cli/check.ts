// outbound-limiter check: every issue of a policy, and what deserves a look.

import { type Policy, PolicyError, type PolicyIssue } from "../index.js";
import { readArguments, readOperands } from "./arguments.js";
import type { Command, Io } from "./command.js";
import { nameOf, readPolicy } from "./files.js";
import { isIgnored, issueText, warningText } from "./issues.js";

const HELP = `Checks a policy and says every issue and warning as \`file:line:column: message\`.

Usage: outbound-limiter check [OPTION]… FILE

FILE is read with its includes; - is the standard input.

Options:
  --ignore-unknown  skip options and stanzas that are not ours: reads a whole ecelerity.conf
  --strict          warnings fail, too; not those about what --ignore-unknown skips
  --json            a list of issues and warnings: level ("error", "warning"), rule, message, help, source, line, column,
                    excerpt
  --help            this text

Exit status: 0 the policy can be used, 1 it has issues (with --strict: or warnings), 2 it cannot be read.

Examples:
  outbound-limiter check limits.conf
  outbound-limiter check --strict limits.conf && systemctl reload mta
  outbound-limiter check --ignore-unknown /opt/msys/ecelerity/etc/conf/default/ecelerity.conf
  outbound-limiter check --json limits.conf | jq -r '.[] | [.source, .line, .message] | @tsv'
`;

const OPTIONS = {
  "ignore-unknown": { type: "boolean" },
  strict: { type: "boolean" },
  json: { type: "boolean" },
} as const;

interface Findings {
  readonly issues: readonly PolicyIssue[];
  readonly warnings: readonly PolicyIssue[];
}

export const check: Command = {
  name: "check",
  summary: "says every issue and warning of a policy",
  help: HELP,
  async run(args, io) {
    const { values, positionals } = readArguments(args, OPTIONS);
    const [path] = readOperands(positionals, ["FILE"]);
    const found = await findings(readPolicy(path, io, values["ignore-unknown"]));
    if (values.json) {
      const leveled = [
        ...found.issues.map((issue) => ({ level: "error", ...issue })),
        ...found.warnings.map((issue) => ({ level: "warning", ...issue })),
      ];
      io.stdout.write(`${JSON.stringify(leveled, null, 2)}\n`);
    } else {
      printFindings(nameOf(path), found, io);
    }
    const fails = values.strict ? found.warnings.some((warning) => !isIgnored(warning)) : false;
    return found.issues.length > 0 || fails ? 1 : 0;
  },
};

async function findings(reading: Promise<Policy>): Promise<Findings> {
  try {
    return { issues: [], warnings: (await reading).warnings };
  } catch (error) {
    if (error instanceof PolicyError) return { issues: error.issues, warnings: [] };
    throw error;
  }
}

function printFindings(name: string, { issues, warnings }: Findings, { stdout }: Io): void {
  for (const issue of issues) stdout.write(`${issueText(issue, stdout)}\n`);
  for (const warning of warnings) stdout.write(`${warningText(warning, stdout)}${isIgnored(warning) ? "" : "\n"}`);
  const ignored = warnings.filter(isIgnored).length;
  const counts = [
    issues.length === 0 ? stdout.paint("green", "no issues") : counted(issues.length, "issue"),
    warnings.length === ignored ? "" : counted(warnings.length - ignored, "warning"),
    ignored === 0 ? "" : `${ignored} ignored`,
  ];
  stdout.write(`${name}: ${counts.filter((words) => words !== "").join(", ")}\n`);
}

const counted = (count: number, word: string): string => `${count} ${word}${count === 1 ? "" : "s"}`;
