// A real Postfix for tests: it takes mail on loopback, delivers it to nowhere, and counts connections itself. It has folders
// of its own and touches nothing of the system's; it does not outlive the process that started it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { describe } from "vitest";
import { freePort } from "../../bench/free-port.js";

/** The folder of Postfix's daemons, where it is installed. */
const DAEMONS = ((): string | undefined => {
  const env = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };
  try {
    return execFileSync("postconf", ["-dh", "daemon_directory"], { encoding: "utf8", env, stdio: "pipe" }).trim();
  } catch {
    return undefined;
  }
})();

/** For tests that need Postfix, which only root can start. Without it they are skipped; under CI, fail. */
export const describePostfix: Describe = describeWith(DAEMONS, process.getuid?.() === 0);

type Describe = typeof describe | typeof describe.skip;

function describeWith(daemons: string | undefined, root: boolean): Describe {
  if (daemons !== undefined && root) return describe;
  if (process.env["CI"]) throw new Error(daemons ? "Only root can start Postfix" : "Postfix is not installed");
  return describe.skip;
}

export interface PostfixOptions {
  /** Each listens on a port of its own and counts for itself. */
  readonly hosts: readonly string[];
  /** How many connections a host takes at once from one address. */
  readonly limit: number;
  /** The hosts that offer STARTTLS. */
  readonly starttls?: readonly string[];
}

export interface Postfix extends AsyncDisposable {
  /** By host. */
  readonly ports: ReadonlyMap<string, number>;
  /** What it did, by its log, once it has no connection any more and has delivered so many messages. */
  settled(messages: number): Promise<Log>;
}

export interface Log {
  readonly connections: number;
  /** Connections that were too many for it. */
  readonly refusals: number;
  readonly secured: number;
  readonly delivered: number;
}

/** It takes connections when this resolves. */
export async function startPostfix({ hosts, limit, starttls = [] }: PostfixOptions): Promise<Postfix> {
  assert(DAEMONS, "Postfix is not installed");
  const ports = new Map<string, number>();
  for (const host of hosts) ports.set(host, await freePort());
  const folder = mkdtempSync(join(tmpdir(), "outbound-limiter-postfix-"));
  try {
    makeFolders(folder);
    makeCertificate(folder);
    const services = [...ports].map(([host, port]) => smtpd(port, starttls.includes(host)));
    writeFileSync(join(folder, "master.cf"), `${[...services, ...SERVICES].join("\n")}\n`);
    writeFileSync(join(folder, "main.cf"), mainConfig(folder, limit));
    utimesSync(join(folder, "main.cf"), 0, 0); // it waits for a new one to get old, in case somebody still writes it
  } catch (error) {
    rmSync(folder, { recursive: true });
    throw error;
  }

  const guard = spawn("sh", ["-c", GUARD, join(DAEMONS, "master"), folder], {
    detached: true, // a Ctrl-C is not for the guard: it has to end Postfix then
    stdio: ["pipe", "ignore", "pipe"],
  });
  const exited = once(guard, "exit");
  const errors = text(guard.stderr);
  const log = join(folder, "log");
  const readLog = (): string => (existsSync(log) ? readFileSync(log, "utf8") : "");
  while (!readLog().includes("daemon started")) {
    if (guard.exitCode !== null) throw new Error(`Postfix did not start: ${await errors}`);
    await sleep(10);
  }
  return {
    ports,
    settled: async (messages) => {
      for (let tries = 0; tries < 600; tries++) {
        const { open, ...did } = countIn(readLog());
        if (open === 0 && did.delivered >= messages) return did;
        await sleep(100);
      }
      throw new Error(`Postfix has not delivered ${messages} messages: ${JSON.stringify(countIn(readLog()))}`);
    },
    [Symbol.asyncDispose]: async () => {
      guard.stdin.end();
      await exited;
    },
  };
}

/** Runs Postfix until standard input ends, which it does in whatever way the process ends that has the other end of it. */
const GUARD = `
trap "" PIPE
exec 3<&0
"$0" -c "$1" -s &
master=$!
{ read -r line; kill $master; } <&3 &
wait $master
kill $! 2>/dev/null
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
`;

function makeFolders(folder: string): void {
  chmodSync(folder, 0o755); // most daemons are not root
  const queue = ["active", "bounce", "corrupt", "defer", "deferred", "hold", "incoming", "private", "public", "trace"];
  const owned = ["data", ...queue.map((name) => join("queue", name))].map((name) => join(folder, name));
  for (const each of [...owned, join(folder, "queue", "pid")]) mkdirSync(each, { recursive: true });
  execFileSync("chown", ["postfix:", ...owned], { stdio: "pipe" });
}

function makeCertificate(folder: string): void {
  const files = ["-keyout", join(folder, "key.pem"), "-out", join(folder, "certificate.pem")];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
  execFileSync("openssl", ["req", "-x509", ...curve, "-nodes", "-subj", "/CN=mx.example", ...files], { stdio: "pipe" });
}

function mainConfig(folder: string, limit: number): string {
  return `
compatibility_level = 3.6
queue_directory = ${folder}/queue
data_directory = ${folder}/data
maillog_file = ${folder}/log
maillog_file_prefixes = ${folder}
myhostname = postfix.example
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
alias_maps =
local_recipient_maps =

# Everybody's mail, at any speed.
mynetworks = 127.0.0.0/8
mydestination =
default_transport = discard:
in_flow_delay = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0

# No exceptions: by default there are some for all of mynetworks.
smtpd_client_connection_count_limit = ${limit}
smtpd_client_event_limit_exceptions =

smtpd_tls_key_file = ${folder}/key.pem
smtpd_tls_cert_file = ${folder}/certificate.pem
smtpd_tls_loglevel = 1
`;
}

/** Connections are counted by the first column here and the client's address. */
const smtpd = (port: number, starttls: boolean): string =>
  `127.0.0.1:${port} inet n - n - 100 smtpd -o smtpd_tls_security_level=${starttls ? "may" : "none"}`;

const SERVICES = [
  "cleanup unix n - n - 0 cleanup",
  "qmgr unix n - n 300 1 qmgr",
  "rewrite unix - - n - - trivial-rewrite",
  "bounce unix - - n - 0 bounce",
  "defer unix - - n - 0 bounce",
  "trace unix - - n - 0 bounce",
  "error unix - - n - - error",
  "retry unix - - n - - error",
  "discard unix - - n - - discard",
  "tlsmgr unix - - n 1000? 1 tlsmgr",
  "anvil unix - - n - 1 anvil",
  "postlog unix-dgram n - n - 1 postlogd",
];

function countIn(log: string): Log & { readonly open: number } {
  const count = (pattern: RegExp): number => log.match(pattern)?.length ?? 0;
  const connections = count(/: connect from /g);
  return {
    connections,
    open: connections - count(/: disconnect from /g),
    refusals: count(/: Connection concurrency limit exceeded: /g),
    secured: count(/ TLS connection established from /g),
    delivered: count(/, status=sent /g), // one a recipient, and a message has one
  };
}
