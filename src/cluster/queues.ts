// What is in use of each counter over all members, who waits for it, and who gets a slot that comes free.

import type { Ask, Slot } from "./engine.js";

/** Asks tried in one call. The rest of a hand-over goes on at the next one, so that no single call takes long. */
const MOST_TRIES = 64;
/** Times an ask may have a slot within reach and not the others it needs. */
const MOST_PASSES = 16;

/** An ask in a queue. */
export interface Waiting {
  readonly member: string;
  readonly id: number;
  readonly slots: readonly Slot[];
  /** Sets still wanted. */
  count: number;
  /** Times it was moved from one counter to another, since it was granted something. */
  passed: number;
  /** The counter in whose queue it is. */
  at: string;
}

/** Those who wait, as the queues see them. */
export interface Waiters {
  /** Whether a grant would lie unused, as nothing was heard of the member for some time. */
  isSilent(member: string): boolean;
  /** The member gets one set of its ask. Returns false where it cannot be told: then it gets nothing. */
  give(ask: Waiting): boolean;
  /** All but `member` give the slots of a counter back that they do not use. */
  recall(key: string, member: string): void;
}

/**
 * An ask stands in the queue of *one* counter that is full for it. When slots of a counter come free, the asks of its
 * queue are tried in order: one has room everywhere and gets one set, then all asks of its member go to the end, so that
 * members take turns; or another counter is full, and the ask moves to the end of that one's queue.
 *
 * Moving can go on for ever for an ask that needs two busy counters which never have room together. One that was passed
 * over too often becomes the keeper: on its counters everybody else leaves one slot free, until it has its set. There is
 * one keeper at a time, so two never wait for each other's slots.
 *
 * INVARIANT: after every call of `serve`, no ask in a queue has room in all of its counters, but for counters in `cut`.
 */
export class Queues {
  /** Slots in use by counter, also those granted that their member has not seen yet. No zeros. */
  readonly totals: Map<string, number> = new Map();
  /** Asks by counter, in order. No empty ones. */
  readonly lines: Map<string, readonly Waiting[]> = new Map();
  /** Counters whose hand-over was cut short. */
  readonly cut: Set<string> = new Set();
  readonly #asks = new Map<string, Map<number, Waiting>>();
  readonly #waiters: Waiters;
  #keeper: Waiting | undefined;
  /** Counters to serve. */
  readonly #freed = new Set<string>();
  #triesLeft = 0;

  constructor(waiters: Waiters) {
    this.#waiters = waiters;
  }

  total(key: string): number {
    return this.totals.get(key) ?? 0;
  }

  /** The asks of a member that wait, by id. */
  of(member: string): ReadonlyMap<number, Waiting> {
    return this.#asks.get(member) ?? NOTHING;
  }

  /** More or fewer slots of a counter are in use. */
  add(key: string, slots: number): void {
    const total = this.total(key) + slots;
    if (total > 0) this.totals.set(key, total);
    else this.totals.delete(key);
    if (slots < 0) this.#freed.add(key);
  }

  /** How many slots of a counter are free for whoever is not the keeper. */
  free({ key, limit }: Slot): number {
    return limit - this.total(key) - (needs(this.#keeper, key) ? 1 : 0);
  }

  isContended(key: string, member: string): boolean {
    return this.lines.get(key)?.some((ask) => ask.member !== member) ?? false;
  }

  /** Grants what can be granted of a new ask; the rest waits. Returns how many sets were granted. */
  join(member: string, { id, count, slots }: Ask): number {
    // Behind a hand-over that was cut: there may be others who have waited for the slots that seem free.
    const cut = slots.find(({ key }) => this.cut.has(key));
    let granted = 0;
    while (cut === undefined && granted < count && slots.every((slot) => this.free(slot) > 0)) {
      for (const { key } of slots) this.add(key, 1);
      granted++;
    }
    const place = slots.find((slot) => this.free(slot) <= 0) ?? cut;
    if (granted === count || place === undefined) return granted;

    const asks = this.#asks.get(member) ?? new Map<number, Waiting>();
    const ask: Waiting = { member, id, slots, count: count - granted, passed: 0, at: place.key };
    this.#asks.set(member, asks.set(id, ask));
    this.#enqueue(ask);
    return granted;
  }

  withdraw(ask: Waiting): void {
    this.#setLine(
      ask.at,
      this.#line(ask.at).filter((other) => other !== ask),
    );
    this.#forget(ask);
  }

  /** Hands on what came free, first what was cut. */
  serve(): void {
    this.#triesLeft = MOST_TRIES;
    const cut = [...this.cut];
    this.cut.clear();
    for (const key of cut) this.#serve(key);
    while (this.#freed.size > 0) {
      // In the order of their names, as one that any engine can keep to.
      const freed = [...this.#freed].filter((key) => this.lines.has(key) || needs(this.#keeper, key)).sort();
      this.#freed.clear();
      for (const key of freed) this.#serve(key);
    }
  }

  #serve(key: string): void {
    for (let ask = this.#nextAt(key); ask !== undefined; ask = this.#nextAt(key)) {
      if (this.#triesLeft === 0) {
        this.cut.add(key);
        return;
      }
      this.#triesLeft--;
      this.#try(ask);
    }
  }

  /**
   * The next ask to try when a counter has room: the keeper if it needs it, or else the first in the queue. One that has
   * a lower limit than others, and has reached it, keeps its place.
   */
  #nextAt(key: string): Waiting | undefined {
    const keeper = this.#keeper;
    if (keeper !== undefined && needs(keeper, key) && this.#hasRoomAt(keeper, keeper.at)) return keeper;
    return this.#line(key).find((ask) => this.#hasRoomAt(ask, key));
  }

  #try(ask: Waiting): void {
    const full = ask.slots.find(({ key }) => !this.#hasRoomAt(ask, key));
    if (this.#waiters.isSilent(ask.member)) this.withdraw(ask);
    else if (full !== undefined) this.#passOver(ask, full.key);
    else if (!this.#waiters.give(ask)) this.withdraw(ask);
    else this.#granted(ask);
  }

  #hasRoomAt(ask: Waiting, key: string): boolean {
    const slot = ask.slots.find((other) => other.key === key);
    return slot !== undefined && (ask === this.#keeper ? slot.limit - this.total(key) : this.free(slot)) > 0;
  }

  #granted(ask: Waiting): void {
    for (const { key } of ask.slots) this.add(key, 1);
    ask.count--;
    ask.passed = 0;
    const line = this.#line(ask.at);
    this.#setLine(ask.at, [
      ...line.filter(({ member }) => member !== ask.member),
      ...line.filter((other) => other.member === ask.member && other !== ask),
      ...(ask.count > 0 ? [ask] : []),
    ]);
    if (ask.count === 0) this.#forget(ask);
    else if (ask === this.#keeper) this.#endKeeping();
  }

  #passOver(ask: Waiting, key: string): void {
    this.#setLine(
      ask.at,
      this.#line(ask.at).filter((other) => other !== ask),
    );
    ask.at = key;
    ask.passed++;
    this.#enqueue(ask);
    if (ask.passed >= MOST_PASSES) this.#keeper ??= ask;
  }

  #enqueue(ask: Waiting): void {
    const line = this.#line(ask.at);
    this.#setLine(ask.at, [...line, ask]);
    if (line.some(({ member }) => member === ask.member)) return;
    // The first who waits makes the others give back. They cannot tell that to the first itself: the second does.
    if (line.every(({ member }) => member === line[0]?.member)) this.#waiters.recall(ask.at, ask.member);
  }

  #forget(ask: Waiting): void {
    const asks = this.#asks.get(ask.member);
    asks?.delete(ask.id);
    if (asks?.size === 0) this.#asks.delete(ask.member);
    if (ask === this.#keeper) this.#endKeeping();
  }

  #endKeeping(): void {
    for (const { key } of this.#keeper?.slots ?? []) this.#freed.add(key);
    this.#keeper = undefined;
  }

  #line(key: string): readonly Waiting[] {
    return this.lines.get(key) ?? NOBODY;
  }

  #setLine(key: string, line: readonly Waiting[]): void {
    if (line.length > 0) this.lines.set(key, line);
    else this.lines.delete(key);
  }
}

function needs(ask: Waiting | undefined, key: string): boolean {
  return ask?.slots.some((slot) => slot.key === key) ?? false;
}

const NOBODY: readonly never[] = [];
const NOTHING: ReadonlyMap<number, never> = new Map<number, never>();
