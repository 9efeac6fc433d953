// A process that stands for the mail servers: it accepts connections, and counts by itself how many are open. It knows
// nothing of limiters. Argument: the limits, as JSON.

import { createServer, type Socket } from "node:net";
import { performance } from "node:perf_hooks";
import { createInterface } from "node:readline";

/** Most connections by key: a word that a connection gives in its first line, or `ALL`. */
export type Limits = Readonly<Record<string, number>>;
const ALL = "*";

/** A connection that came although there were as many as the limit already. */
export interface Violation {
  readonly key: string;
  /** How many there were, itself included, beyond the limit. */
  readonly by: number;
  /** Until there were no more than the limit again; undefined as long as there are. */
  lasted: number | undefined;
}

export interface Report {
  /** Connections so far, and by sender. */
  readonly connections: number;
  readonly bySender: Readonly<Record<string, number>>;
  /** Open now, by key; a key without any is left out. */
  readonly open: Readonly<Record<string, number>>;
  /** Most that were open at one time. */
  readonly peak: number;
  /** At most 1,000 of them. */
  readonly violations: readonly Violation[];
  /** Connections that ended without saying goodbye. */
  readonly cut: number;
  /** Part of the time since the last `mark` that the slots of `ALL` were in use; 1 if all were, all the time. */
  readonly used: number;
}

export type ReceiverCommand =
  | { readonly do: "report"; readonly id: number }
  /** Begins to count anew but for what is open. */
  | { readonly do: "mark"; readonly id: number }
  | { readonly do: "limits"; readonly id: number; readonly limits: Limits };

let limits = JSON.parse(String(process.argv[2])) as Limits;
const open = new Map<string, number>();
let bySender: Record<string, number> = {};
let [connections, peak, cut] = [0, 0, 0];
let violations: Violation[] = [];
/** When a key went over its limit, with what came while it was. */
const over = new Map<string, { readonly since: number; readonly violations: Violation[] }>();

/** Slots of `ALL` in use, times milliseconds. */
let use = 0;
let [markedAt, usedAt] = [performance.now(), performance.now()];

function settleUse(): void {
  const now = performance.now();
  use += Math.min(open.get(ALL) ?? 0, limits[ALL] ?? 0) * (now - usedAt);
  usedAt = now;
}

function enter(key: string): void {
  if (key === ALL) settleUse();
  const count = (open.get(key) ?? 0) + 1;
  open.set(key, count);
  const limit = limits[key] ?? Number.POSITIVE_INFINITY;
  if (count <= limit) return;
  const violation: Violation = { key, by: count - limit, lasted: undefined };
  if (violations.length < 1_000) violations.push(violation);
  const moment = over.get(key) ?? { since: performance.now(), violations: [] };
  over.set(key, moment);
  moment.violations.push(violation);
}

function leave(key: string): void {
  if (key === ALL) settleUse();
  const count = (open.get(key) ?? 0) - 1;
  if (count > 0) open.set(key, count);
  else open.delete(key);
  const moment = over.get(key);
  if (moment === undefined || count > (limits[key] ?? Number.POSITIVE_INFINITY)) return;
  over.delete(key);
  for (const violation of moment.violations) violation.lasted = performance.now() - moment.since;
}

function receive(socket: Socket): void {
  const keys: string[] = [ALL];
  let [isGone, saidGoodbye] = [false, false];
  connections++;
  enter(ALL);
  peak = Math.max(peak, open.get(ALL) ?? 0);
  // Before the sender can know that the connection is closed, it no longer counts.
  const go = (): void => {
    if (isGone) return;
    isGone = true;
    if (!saidGoodbye) cut++;
    for (const key of keys) leave(key);
  };
  createInterface({ input: socket }).on("line", (line) => {
    if (line === "QUIT") {
      saidGoodbye = true;
      return;
    }
    const [sender = "", ...words] = line.split(" ");
    bySender[sender] = (bySender[sender] ?? 0) + 1;
    if (isGone) return;
    for (const word of words) enter(word);
    keys.push(...words);
  });
  socket.on("end", () => {
    go();
    socket.end();
  });
  socket.on("close", go);
  socket.on("error", () => {});
}

function report(): Report {
  settleUse();
  const used = use / ((performance.now() - markedAt) * (limits[ALL] ?? 0));
  return { connections, bySender, open: Object.fromEntries(open), peak, violations, cut, used };
}

const server = createServer({ allowHalfOpen: true }, receive).listen({ port: 0, host: "127.0.0.1", backlog: 4_096 });
server.once("listening", () => process.send?.({ address: server.address() }));

process.on("message", (command: ReceiverCommand) => {
  const answer = report();
  if (command.do === "mark") {
    [bySender, connections, cut, use] = [{}, 0, 0, 0];
    peak = open.get(ALL) ?? 0;
    violations = [];
    markedAt = performance.now();
  } else if (command.do === "limits") {
    limits = command.limits;
  }
  process.send?.({ id: command.id, answer });
});
process.once("disconnect", () => process.exit());
