// An engine within this process: the reference of what the scripts do on a server, and all that one process needs.

import type { Milliseconds } from "../types.js";
import {
  type Ask,
  type Engine,
  type MemberInfo,
  MOST_TOLD,
  type Push,
  type Reply,
  type Slot,
  type Standing,
  type Statement,
} from "./engine.js";
import { Queues, type Waiting } from "./queues.js";

/** Beats in a `ttl`. */
const BEATS = 5;
/** After so many beats without a statement a member is granted nothing. */
const SILENT_BEATS = 2.5;
/** A step of the clock counts as no more than this many beats: a jump lets nobody expire. */
const MOST_BEATS_A_STEP = 1.25;
const MOST_SPARE = 64;
const MOST_EXPIRED = 8;

export interface LedgerOptions {
  /** @default Infinity */
  readonly ttl?: Milliseconds;
  readonly now?: () => Milliseconds;
  /** Whether nobody can hold anything that this ledger was not told of. If not, nothing is granted for one `ttl`. */
  readonly isNew?: boolean;
}

interface Member {
  readonly label: string;
  readonly sequence: number;
  readonly seen: Milliseconds;
  /** Whether it said that it hears what it is told unasked. */
  readonly listens: boolean;
  /** Slots by counter. No zeros. */
  readonly own: Map<string, number>;
  /** An ask as often as its set was granted since the member was last told. */
  readonly inbox: Waiting[];
}

/** How many ledgers were made: an epoch is of one of them. */
let ledgers = 0;

export class Ledger implements Engine {
  readonly ttl: Milliseconds;
  /** What is counted, and who waits. */
  readonly queues: Queues = new Queues({
    isSilent: (member) => this.#isSilent(member),
    give: (ask) => this.#give(ask),
    recall: (key, member) => this.#recall(key, member),
  });
  readonly #epoch = `${++ledgers}`;
  readonly #now: () => Milliseconds;
  readonly #members = new Map<string, Member>();
  readonly #listeners = new Map<string, Set<(push: Push) => void>>();
  #version = 0;
  /** Logical: it never goes back, and never far in one step. */
  #clock: Milliseconds = 0;
  #wall: Milliseconds;
  /** Until then nothing is granted. */
  readonly #learnUntil: Milliseconds;
  /** Until then nobody expires. */
  #sweep: Milliseconds = Number.POSITIVE_INFINITY;
  /** Who makes the statement that is being applied. */
  #caller: string | undefined;
  /** Members told in this call that they were granted something. */
  readonly #told = new Set<string>();

  constructor({ ttl = Number.POSITIVE_INFINITY, now = monotonicNow, isNew = true }: LedgerOptions = {}) {
    this.ttl = ttl;
    this.#now = now;
    this.#wall = now();
    this.#learnUntil = isNew ? 0 : ttl;
  }

  state(statement: Statement): Promise<Reply> {
    return Promise.resolve(this.#inTurn(statement.member, () => this.#apply(statement)));
  }

  reap(id: string): Promise<void> {
    this.#inTurn(undefined, () => {
      const member = this.#members.get(id);
      if (member === undefined || this.#clock < member.seen + this.ttl) return;
      this.#remove(id, member);
      this.#serve();
    });
    return Promise.resolve();
  }

  members(): Promise<readonly MemberInfo[]> {
    this.#tick();
    const infos = [...this.#members].map(([id, { label, seen, own }]) => {
      return { id, label, silentFor: this.#clock - seen, holds: new Map(own) };
    });
    return Promise.resolve(infos.sort((a, b) => (a.id < b.id ? -1 : 1)));
  }

  listen(member: string, hear: (push: Push) => void): Disposable {
    const listeners = this.#listeners.get(member) ?? new Set();
    this.#listeners.set(member, listeners.add(hear));
    return {
      [Symbol.dispose]: () => {
        listeners.delete(hear);
        if (listeners.size === 0 && this.#listeners.get(member) === listeners) this.#listeners.delete(member);
      },
    };
  }

  // ── What the queues ask of the members ──

  #isSilent(id: string): boolean {
    const seen = this.#members.get(id)?.seen ?? Number.NEGATIVE_INFINITY;
    return this.#clock - seen > (this.ttl / BEATS) * SILENT_BEATS;
  }

  #give(ask: Waiting): boolean {
    const member = this.#members.get(ask.member);
    if (member === undefined) return false;
    if (ask.member !== this.#caller && !this.#told.has(ask.member)) {
      if (member.listens && !this.#listeners.has(ask.member)) return false;
      this.#told.add(ask.member);
      this.#push(ask.member, { kind: "granted" });
    }
    member.inbox.push(ask);
    return true;
  }

  #recall(key: string, id: string): void {
    for (const other of this.#listeners.keys()) if (other !== id) this.#push(other, { kind: "recall", key });
  }

  // ── A statement ──

  #inTurn<T>(caller: string | undefined, work: () => T): T {
    this.#tick();
    this.#caller = caller;
    this.#told.clear();
    return work();
  }

  #tick(): void {
    const wall = this.#now();
    this.#clock += Math.min(Math.max(0, wall - this.#wall), (this.ttl / BEATS) * MOST_BEATS_A_STEP);
    this.#wall = wall;
  }

  get #isLearning(): boolean {
    return this.#clock < this.#learnUntil;
  }

  #apply(statement: Statement): Reply {
    const { member: id, leave, epoch } = statement;
    const known = this.#members.get(id);
    if (known !== undefined && statement.sequence <= known.sequence) return { status: "stale" };
    const isFull = statement.full || leave;
    if (!isFull && (known === undefined || epoch !== this.#epoch)) return { status: "unknown", epoch: this.#epoch };
    if (leave) {
      if (known !== undefined) this.#remove(id, known);
      this.#serve();
      return this.#reply(statement, [], []);
    }

    const member = this.#welcome(statement, known);
    const tellsOwn = statement.beat && member.own.size <= MOST_TOLD;
    const mentioned = new Set(statement.holds.keys());
    for (const { slots } of statement.asks) for (const { key } of slots) mentioned.add(key);
    if (isFull) this.#replace(id, member, statement);
    for (const [key, held] of statement.holds) this.#hold(member, key, held);
    const unheard = this.#restate(id, member, statement.asks);

    const unseen = member.inbox.length;
    this.#serve();
    const ended: Pick<Ask, "slots">[] = member.inbox.slice(unseen).filter(({ count }) => count === 0);
    const granted = this.#collect(member, mentioned);
    if (!this.#isLearning) {
      for (const ask of unheard) if (this.#join(id, member, ask, granted)) ended.push(ask);
      this.#giveSpare(
        member,
        ended.flatMap(({ slots }) => slots),
      );
    }
    if (statement.beat) {
      if (tellsOwn) for (const key of member.own.keys()) mentioned.add(key);
      for (const { slots } of this.queues.of(id).values()) for (const { key } of slots) mentioned.add(key);
    }
    return this.#reply(statement, this.#standings(id, member, mentioned), granted);
  }

  #welcome({ member: id, label, sequence }: Statement, known: Member | undefined): Member {
    if (known === undefined) this.#version++;
    const member: Member = {
      label,
      sequence,
      seen: this.#clock,
      listens: this.#listeners.has(id),
      own: known?.own ?? new Map(),
      inbox: known?.inbox ?? [],
    };
    this.#members.set(id, member);
    this.#sweep = Math.min(this.#sweep, this.#clock + this.ttl);
    return member;
  }

  /** What is not stated is given back. So is what the member was granted and did not see: if it did, it has stated it. */
  #replace(id: string, member: Member, { holds, asks }: Statement): void {
    this.#emptyInbox(member);
    for (const key of member.own.keys()) if (!holds.has(key)) this.#hold(member, key, 0);
    const restated = new Set(asks.map((ask) => ask.id));
    for (const ask of this.queues.of(id).values()) if (!restated.has(ask.id)) this.queues.withdraw(ask);
  }

  #hold(member: Member, key: string, held: number): void {
    this.queues.add(key, held - (member.own.get(key) ?? 0));
    if (held > 0) member.own.set(key, held);
    else member.own.delete(key);
  }

  /** Sets how many sets the asks that wait already still want. Returns those that are new. */
  #restate(id: string, member: Member, asks: readonly Ask[]): Ask[] {
    const unseen = new Map<number, number>();
    for (const { id: ask } of member.inbox) unseen.set(ask, (unseen.get(ask) ?? 0) + 1);
    const unheard: Ask[] = [];
    for (const ask of asks) {
      // The member did not know yet what is in its inbox.
      const count = ask.count - (unseen.get(ask.id) ?? 0);
      const waiting = this.queues.of(id).get(ask.id);
      if (waiting === undefined && count > 0) unheard.push({ ...ask, count });
      if (waiting !== undefined && count > 0) waiting.count = count;
      if (waiting !== undefined && count <= 0) this.queues.withdraw(waiting);
    }
    return unheard;
  }

  #serve(): void {
    if (!this.#isLearning) this.queues.serve();
  }

  /** What was granted becomes the member's own. Returns the ids of the asks. */
  #collect(member: Member, mentioned: Set<string>): number[] {
    return member.inbox.splice(0).map(({ id, slots }) => {
      for (const { key } of slots) {
        mentioned.add(key);
        member.own.set(key, (member.own.get(key) ?? 0) + 1);
      }
      return id;
    });
  }

  /** Grants or queues a new ask. Returns whether it got all at once. */
  #join(id: string, member: Member, ask: Ask, granted: number[]): boolean {
    const sets = this.queues.join(id, ask);
    for (let set = 0; set < sets; set++) {
      for (const { key } of ask.slots) member.own.set(key, (member.own.get(key) ?? 0) + 1);
      granted.push(ask.id);
    }
    return sets === ask.count;
  }

  /** Some more of what it got at once, where nobody waits: it may need them soon, and then need not ask. */
  #giveSpare(member: Member, slots: readonly Slot[]): void {
    const given = new Set<string>();
    for (const slot of slots) {
      const { key } = slot;
      if (given.has(key) || this.queues.lines.has(key)) continue;
      given.add(key);
      const spare = Math.min(MOST_SPARE, Math.floor(this.queues.free(slot) / 2 / this.#members.size));
      if (spare > 0) this.#hold(member, key, (member.own.get(key) ?? 0) + spare);
    }
  }

  #remove(id: string, member: Member): void {
    this.#members.delete(id);
    this.#version++;
    this.#emptyInbox(member);
    for (const [key, held] of member.own) this.queues.add(key, -held);
    for (const ask of this.queues.of(id).values()) this.queues.withdraw(ask);
  }

  #emptyInbox(member: Member): void {
    for (const { slots } of member.inbox.splice(0)) for (const { key } of slots) this.queues.add(key, -1);
  }

  #standings(id: string, member: Member, keys: ReadonlySet<string>): Standing[] {
    return [...keys].map((key) => {
      const contended = this.queues.isContended(key, id);
      return { key, held: member.own.get(key) ?? 0, total: this.queues.total(key), contended };
    });
  }

  #reply(statement: Statement, standings: readonly Standing[], granted: readonly number[]): Reply {
    const isKnown = statement.members === this.#version && statement.epoch === this.#epoch;
    return {
      status: "ok",
      epoch: this.#epoch,
      learning: Math.ceil(Math.max(0, this.#learnUntil - this.#clock)),
      standings,
      granted,
      version: this.#version,
      members: isKnown ? undefined : [...this.#members.keys()].sort(),
      expired: this.#expired(),
      more: this.queues.cut.size > 0,
    };
  }

  #expired(): string[] {
    if (this.#clock < this.#sweep) return [];
    const expired: string[] = [];
    this.#sweep = Number.POSITIVE_INFINITY;
    for (const [id, { seen }] of this.#members) {
      const expiry = seen + this.ttl;
      if (expiry <= this.#clock) expired.push(id);
      this.#sweep = Math.min(this.#sweep, expiry);
    }
    return expired.sort().slice(0, MOST_EXPIRED);
  }

  #push(id: string, push: Push): void {
    queueMicrotask(() => {
      for (const hear of this.#listeners.get(id) ?? []) hear(push);
    });
  }
}

function monotonicNow(): Milliseconds {
  return Math.round(performance.now());
}
