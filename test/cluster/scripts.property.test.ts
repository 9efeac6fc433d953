// The scripts on a real server and the ledger, given the same statements, answer the same, tell the same unasked, and keep
// the same state, in which the invariants hold. SCRIPT_RUNS sets the number of runs (default 60).
/* oxlint-disable vitest/expect-expect -- fc.assert asserts */

import { deepStrictEqual } from "node:assert/strict";
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, test } from "vitest";
import type { Ask, Push, Reply, Statement } from "../../src/cluster/engine.js";
import { Ledger } from "../../src/cluster/ledger.js";
import { REAP, SYNC } from "../../src/cluster/scripts.js";
import {
  type Call,
  channelsOf,
  type NameSpace,
  parsePush,
  parseReap,
  parseReply,
  reapCall,
  statementCall,
} from "../../src/cluster/wire.js";
import { describeRedis, openRedis } from "../redis/server.js";

const scriptRuns = Number(process.env["SCRIPT_RUNS"] ?? 60);
const timeout = 60_000 + scriptRuns * 2_000;
/** A failure is shrunk for some time only, so that it is told. */
const options = { numRuns: scriptRuns, interruptAfterTimeLimit: timeout / 2 };
/** So long that nothing depends on time. */
const TTL = 600_000;

const MEMBERS = ["a", "b", "c", "d %"];
/** Two counters that are always busy, one with room, and one with so many slots that a hand-over is cut. */
const LIMITS: Readonly<Record<string, number>> = { "x\ny": 1, "y %": 2, z: 5, wide: 150 };
const KEYS = Object.keys(LIMITS);

type Step =
  | {
      readonly kind: "state";
      readonly who: number;
      /** Share of what is held that is given back, by counter. */
      readonly release: readonly number[];
      readonly want: { readonly keys: readonly string[]; readonly count: number; readonly more: number } | undefined;
      /** An ask that waits gets another count. */
      readonly change: { readonly which: number; readonly count: number } | undefined;
      readonly full: boolean;
      readonly beat: boolean;
      readonly isLost: boolean;
    }
  | { readonly kind: "again"; readonly who: number; readonly back: number }
  | { readonly kind: "claim"; readonly who: number; readonly key: string; readonly held: number }
  | { readonly kind: "leave" | "reap" | "listen" | "deafen"; readonly who: number }
  | { readonly kind: "lose" };

const who = fc.nat(MEMBERS.length - 1);
const rarely = fc.integer({ min: 0, max: 9 }).map((one) => one === 0);
const count = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 1, max: 3 }) },
  { weight: 1, arbitrary: fc.integer({ min: 50, max: 150 }) },
);
/** Statements that ask for such sets, so many of each, and give such shares of what they hold back. */
function states(
  sets: readonly (readonly string[])[],
  counts: typeof count,
  shares: readonly number[],
): fc.Arbitrary<Step> {
  const shared = fc.constantFrom(...shares);
  return fc.record({
    kind: fc.constant("state"),
    who,
    release: fc.array(shared, { minLength: KEYS.length, maxLength: KEYS.length }),
    want: fc.option(
      fc.record({
        keys: fc.oneof(
          fc.constantFrom(...sets),
          rarely.chain((one) => (one ? fc.subarray(KEYS, { minLength: 1 }) : fc.constantFrom(...sets))),
        ),
        count: counts,
        // Sometimes a member has a policy of another limit.
        more: fc.oneof({ weight: 29, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(1) }),
      }),
      { nil: undefined },
    ),
    change: fc.option(fc.record({ which: fc.nat(5), count: fc.oneof(fc.constant(0), counts) }), {
      nil: undefined,
      freq: 1,
    }),
    full: rarely,
    beat: rarely,
    isLost: rarely,
  });
}
const [narrow, tight, ample, wide] = KEYS as [string, string, string, string];
/** Of everything some; two busy counters and those who need both; hand-overs of more than one call. */
const kinds: readonly fc.Arbitrary<Step>[] = [
  states([[narrow, tight], [tight, ample], [ample, wide], KEYS], count, [0, 0, 0.5, 1]),
  states([[narrow], [tight], [narrow, tight], [tight], [narrow]], fc.constant(1), [0, 1]),
  states([[wide], [ample, wide]], fc.integer({ min: 50, max: 150 }), [0, 1]),
];
const others: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant("again"), who, back: fc.nat(2) }),
  fc.record({ kind: fc.constantFrom("leave", "reap", "listen", "deafen"), who }),
);
const claims: fc.Arbitrary<Step> = fc.record({
  kind: fc.constant("claim"),
  who,
  key: fc.constantFrom(...KEYS),
  held: fc.nat(4),
});
/** Statements that claim no more than was granted, to an engine that forgets nothing. */
const honest: fc.Arbitrary<Step[]> = fc
  .constantFrom(...kinds)
  .chain((states) => sequenceOf(fc.oneof({ weight: 12, arbitrary: states }, { weight: 1, arbitrary: others })));
const whatever: fc.Arbitrary<Step[]> = sequenceOf(
  fc.oneof(
    { weight: 12, arbitrary: fc.oneof(...kinds) },
    { weight: 1, arbitrary: others },
    { weight: 1, arbitrary: claims },
    { weight: 1, arbitrary: fc.constant<Step>({ kind: "lose" }) },
  ),
);

function sequenceOf(step: fc.Arbitrary<Step>): fc.Arbitrary<Step[]> {
  return fc.array(step, { minLength: 1, maxLength: 150, size: "max" });
}

describeRedis("the scripts and the ledger", () => {
  let server: Awaited<ReturnType<typeof openRedis>>;
  let client: Redis;
  let ears: Redis;
  beforeAll(async () => {
    server = await openRedis();
    client = new Redis(server.url);
    ears = new Redis(server.url);
    // Valkey lets only those unsubscribe who are subscribed to something.
    await ears.subscribe("nothing");
  });
  afterAll(async () => {
    client.disconnect();
    ears.disconnect();
    await server[Symbol.asyncDispose]();
  });

  test("agree, and what was granted is never more than the limits", { timeout }, async () => {
    const isEven = (step: Step) => step.kind !== "state" || step.want === undefined || step.want.more === 0;
    await fc.assert(
      fc.asyncProperty(honest, (steps) => play(steps, !steps.every(isEven))),
      options,
    );
  });

  test("agree when members claim more than they were granted, and after all was lost", { timeout }, async () => {
    await fc.assert(
      fc.asyncProperty(whatever, (steps) => play(steps, true)),
      options,
    );
  });

  async function play(steps: readonly Step[], mayExceed: boolean): Promise<void> {
    const pair = new Pair(client, ears);
    try {
      for (const step of steps) {
        await pair.take(step);
        const dump = await pair.dump();
        pair.compare(dump);
        checkRoom(dump);
        for (const [key, total] of mayExceed ? [] : dump.totals) must(total <= LIMITS[key]!, "over the limit", key);
      }
      for (const who of MEMBERS.keys()) await pair.take({ kind: "leave", who });
      const left = await pair.dump();
      pair.compare(left);
      const counted = left.fields.filter((field) => field.includes(":"));
      must(counted.length === 0 && left.cut.length === 0, "left over", left.fields);
      must((await client.keys(`${pair.stateKey}:*`)).length === 0, "members left over", steps);
    } finally {
      await pair.close();
    }
  }
});

/** What the server keeps, read from its keys. */
interface Dump {
  readonly fields: readonly string[];
  readonly totals: ReadonlyMap<string, number>;
  readonly own: ReadonlyMap<string, ReadonlyMap<string, number>>;
  readonly lines: ReadonlyMap<string, readonly string[]>;
  readonly asks: ReadonlyMap<string, { readonly count: number; readonly passed: number; readonly slots: Slots }>;
  readonly keeper: string | undefined;
  readonly cut: readonly string[];
}
type Slots = readonly { readonly key: string; readonly limit: number }[];

/** INVARIANT: no queued ask has room in all of its counters, but for counters whose hand-over was cut. */
function checkRoom({ totals, asks, lines, keeper, cut }: Dump): void {
  const kept = new Set(asks.get(keeper ?? "")?.slots.map(({ key }) => key));
  for (const [name, { slots }] of asks) {
    const free = slots.every(
      ({ key, limit }) => (totals.get(key) ?? 0) + (name !== keeper && kept.has(key) ? 1 : 0) < limit,
    );
    must(!free || slots.some(({ key }) => cut.includes(key)), "waits for what is free", name);
  }
  must([...lines.values()].flat().length === asks.size, "asks and queues differ", [...lines]);
}

/** What a process believes. */
class Process {
  sequence = 0;
  epochs: readonly [ledger: string, server: string] = ["", ""];
  readonly held = new Map<string, number>();
  readonly asks = new Map<number, Ask>();
  lastAsk = 0;
  version = 0;
  mustBeFull = true;
  readonly sent: Statement[] = [];
  listening: Disposable | undefined;
}

/** The ledger and a server, and processes that speak to both. */
class Pair {
  readonly #client: Redis;
  readonly #ears: Redis;
  #space: NameSpace = { prefix: `test ${randomUUID()}`, ttl: TTL, isNew: true };
  #ledger = new Ledger({ ttl: TTL, now: () => 0 });
  readonly #processes = MEMBERS.map(() => new Process());
  readonly #heard: [ledger: string[], server: string[]] = [[], []];

  constructor(client: Redis, ears: Redis) {
    this.#client = client;
    this.#ears = ears;
    ears.on("message", this.#hear);
  }

  readonly #hear = (channel: string, text: string): void => {
    for (const [who, member] of MEMBERS.entries()) {
      const push = parsePush(this.#space.prefix, member, channel, text);
      if (this.#processes[who]!.listening && push) this.#heard[1].push(spoken(member, push));
    }
  };

  get stateKey(): string {
    return `{${this.#space.prefix}}`;
  }

  async close(): Promise<void> {
    this.#ears.off("message", this.#hear);
    await this.#ears.unsubscribe(...MEMBERS.flatMap((member) => channelsOf(this.#space.prefix, member)));
    const keys = await this.#client.keys(`${this.stateKey}*`);
    if (keys.length > 0) await this.#client.unlink(...keys);
  }

  async take(step: Step): Promise<void> {
    if (step.kind === "lose") {
      await this.#client.unlink(this.stateKey);
      this.#space = { ...this.#space, isNew: false };
      for (const process of this.#processes) process.listening?.[Symbol.dispose]();
      this.#ledger = new Ledger({ ttl: TTL, now: () => 0, isNew: false });
      for (const who of MEMBERS.keys()) if (this.#processes[who]!.listening) this.#listen(who);
      return;
    }
    const process = this.#processes[step.who]!;
    const member = MEMBERS[step.who]!;
    const channels = channelsOf(this.#space.prefix, member);
    switch (step.kind) {
      case "listen":
        if (process.listening === undefined) this.#listen(step.who);
        await this.#ears.subscribe(...channels);
        return;
      case "deafen":
        process.listening?.[Symbol.dispose]();
        process.listening = undefined;
        await this.#ears.unsubscribe(channels[0]);
        return;
      case "reap":
        await this.#ledger.reap(member);
        must(!parseReap(await this.#run(REAP, reapCall(member, this.#space, AROUND))), "reaped in part", step);
        return;
      case "again": {
        const statement = process.sent.at(-1 - step.back);
        if (statement !== undefined) await this.#state(step.who, statement);
        return;
      }
      case "claim":
        if (process.mustBeFull) return;
        process.held.set(step.key, step.held);
        await this.#hearAnswer(step.who, this.#next(step.who, { holds: new Map([[step.key, step.held]]) }));
        return;
      case "leave":
        await this.#state(step.who, this.#next(step.who, { leave: true }));
        process.held.clear();
        process.asks.clear();
        process.epochs = ["", ""];
        process.mustBeFull = true;
        // What it said before it left would be believed, as it is not known any more.
        process.sent.length = 0;
        return;
      case "state": {
        const statement = this.#intend(step, process);
        if (step.isLost) {
          process.mustBeFull = true;
          await this.#state(step.who, statement);
        } else {
          await this.#hearAnswer(step.who, statement);
        }
        return;
      }
    }
  }

  #listen(who: number): void {
    const member = MEMBERS[who]!;
    const hear = (push: Push) => void this.#heard[0].push(spoken(member, push));
    this.#processes[who]!.listening = this.#ledger.listen(member, hear);
  }

  #intend(step: Extract<Step, { kind: "state" }>, process: Process): Statement {
    const holds = new Map<string, number>();
    for (const [index, share] of step.release.entries()) {
      const held = process.held.get(KEYS[index]!) ?? 0;
      const kept = held - Math.ceil(held * share);
      if (kept !== held) holds.set(KEYS[index]!, kept);
    }
    for (const [key, held] of holds) process.held.set(key, held);
    const asks = new Map<number, Ask>();
    const changed = step.change && [...process.asks.values()][step.change.which];
    if (step.change && changed) asks.set(changed.id, { ...changed, count: step.change.count });
    if (step.want) {
      const { keys, count, more } = step.want;
      const id = ++process.lastAsk;
      asks.set(id, { id, count, slots: keys.map((key) => ({ key, limit: LIMITS[key]! + more })) });
    }
    for (const ask of asks.values()) {
      if (ask.count > 0) process.asks.set(ask.id, ask);
      else process.asks.delete(ask.id);
    }
    const full = step.full || process.mustBeFull;
    return this.#next(step.who, {
      full,
      beat: step.beat,
      holds: full ? new Map(process.held) : holds,
      asks: [...(full || step.beat ? process.asks : asks).values()],
    });
  }

  #next(who: number, statement: Partial<Statement>): Statement {
    const process = this.#processes[who]!;
    const all: Statement = {
      member: MEMBERS[who]!,
      label: `host of ${MEMBERS[who]}`,
      sequence: ++process.sequence,
      epoch: "",
      full: false,
      beat: false,
      leave: false,
      holds: new Map(),
      asks: [],
      members: process.version,
      ...statement,
    };
    process.sent.push(all);
    return all;
  }

  /** Sends a statement, and believes what is answered. */
  async #hearAnswer(who: number, statement: Statement): Promise<void> {
    const process = this.#processes[who]!;
    const [reply, epochs] = await this.#state(who, statement);
    process.mustBeFull = reply.status !== "ok";
    if (reply.status === "stale") return;
    process.epochs = epochs;
    if (reply.status !== "ok") return;
    if (reply.learning > 0) process.asks.clear();
    process.version = reply.version;
    for (const { key, held } of reply.standings) process.held.set(key, held);
    for (const id of reply.granted) {
      const ask = process.asks.get(id);
      if (ask === undefined) continue;
      if (ask.count > 1) process.asks.set(id, { ...ask, count: ask.count - 1 });
      else process.asks.delete(id);
    }
  }

  async #state(who: number, statement: Statement): Promise<[Reply, readonly [string, string]]> {
    const { epochs, listening } = this.#processes[who]!;
    const around = { ...AROUND, listens: listening !== undefined };
    const call = statementCall({ ...statement, epoch: epochs[1] }, this.#space, around);
    const wanted = await this.#ledger.state({ ...statement, epoch: epochs[0] });
    const reply = parseReply(await this.#run(SYNC, call));
    deepStrictEqual(normal(reply), normal(wanted));
    // Its answer comes after the messages that were published before.
    await this.#ears.ping();
    const [heard, heardToo] = this.#heard.map((said) => said.splice(0).sort());
    deepStrictEqual(heardToo, heard);
    return [wanted, [epochOf(wanted), epochOf(reply)]];
  }

  #run(script: string, { keys, args }: Call): Promise<unknown> {
    return this.#client.eval(script, keys.length, ...keys, ...args);
  }

  compare(dump: Dump): void {
    const { totals, lines, cut } = this.#ledger.queues;
    deepStrictEqual(dump.totals, totals);
    const named = [...lines].map(([key, line]) => [key, line.map(({ id, member }) => `${id} ${member}`)] as const);
    deepStrictEqual(dump.lines, new Map(named));
    deepStrictEqual(dump.cut, [...cut]);
    for (const [name, { count, passed }] of dump.asks) {
      const [, id, member] = /^(\d+) (.*)$/.exec(name)!;
      deepStrictEqual({ count, passed }, pick(this.#ledger.queues.of(member!).get(Number(id))));
    }
  }

  async dump(): Promise<Dump> {
    const fields = await this.#client.hgetall(this.stateKey);
    const of = (prefix: string) =>
      Object.entries(fields).flatMap(([name, text]) =>
        name.startsWith(prefix) ? ([[decoded(name.slice(prefix.length)), text.split("\n")]] as const) : [],
      );
    const own = new Map<string, ReadonlyMap<string, number>>();
    const sums = new Map<string, number>();
    const sum = (key: string, slots: number) => sums.set(key, (sums.get(key) ?? 0) + slots);
    for (const member of MEMBERS) {
      const { "": epoch, ...held } = await this.#client.hgetall(`${this.stateKey}:${encoded(member)}`);
      if (fields["epoch"] === undefined || epoch !== fields["epoch"]) continue;
      own.set(member, new Map(Object.entries(held).map(([key, slots]) => [decoded(key), Number(slots)])));
    }
    for (const holds of own.values()) for (const [key, slots] of holds) sum(key, slots);
    for (const [, inbox] of of("i:")) for (const line of inbox) if (!/^\d+ \d+$/.test(line)) sum(decoded(line), 1);
    const totals = new Map(of("t:").map(([key, [total]]) => [key, Number(total)]));
    // INVARIANT: totals are what members hold, and what they were granted and have not seen.
    deepStrictEqual(totals, sums);
    const holders = await this.#ledger.members();
    deepStrictEqual(own, new Map(holders.map(({ id, holds }) => [id, holds])));
    return {
      fields: Object.keys(fields),
      totals,
      own,
      lines: new Map(of("q:").map(([key, line]) => [key, line.map((entry) => decoded(entry.replace(/ \S+/, "")))])),
      asks: new Map(
        of("a:").map(([name, [count, passed, , ...slots]]) => {
          const pairs = slots.flatMap((key, at) =>
            at % 2 ? [] : [{ key: decoded(key), limit: Number(slots[at + 1]) }],
          );
          return [name, { count: Number(count), passed: Number(passed), slots: pairs }];
        }),
      ),
      keeper: fields["keeper"] && decoded(fields["keeper"]),
      cut: fields["cut"]?.split("\n").map(decoded) ?? [],
    };
  }
}

const AROUND = { isFresh: false, isTrusted: true, listens: false };

const encoded = (name: string): string => name.replaceAll("%", "%25").replaceAll("\n", "%0A");
const decoded = (name: string): string => name.replaceAll("%0A", "\n").replaceAll("%25", "%");
const spoken = (member: string, push: Push): string => `${member} hears ${JSON.stringify(push)}`;
const epochOf = (reply: Reply): string => (reply.status === "stale" ? "" : reply.epoch);
const pick = (ask: { count: number; passed: number } | undefined) => ask && { count: ask.count, passed: ask.passed };

/** Without what two engines may say differently: names of epochs, times, and the order of standings. */
function normal(reply: Reply): unknown {
  if (reply.status !== "ok") return reply.status;
  const standings = reply.standings.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  return { ...reply, epoch: "", learning: reply.learning > 0, standings };
}

function must(holds: boolean, what: string, where: unknown): void {
  if (!holds) throw new Error(`${what}: ${JSON.stringify(where)}`);
}
