// What a member holds of the cluster's slots, what of that the engine knows, and what has to be said to it.

import type { Counters } from "../core/counters.js";
import type { Counter, Waiter } from "../core/plan.js";
import { Asks } from "./asks.js";
import type { Ask, Reply, Statement } from "./engine.js";

/** Most changes in one statement; the rest goes into the next. */
const MOST_HOLDS = 2_000;
/** What says everything is in one statement up to so many counters: in parts it has to be said under another name. */
const MOST_AT_ONCE = 5_000;

type OkReply = Extract<Reply, { status: "ok" }>;

/** How the next statement is to be. */
export interface Occasion {
  /** The counters have open what this process allows itself without the engine, and others too: only what is used counts. */
  readonly isAlone: boolean;
  readonly canAsk: boolean;
  /** Asks that the engine knows already are said again. */
  readonly allAsks: boolean;
  /** The engine is to tell of every counter. */
  readonly beat: boolean;
}

/** What has to be said. */
export interface Saying extends Pick<Statement, "full" | "holds" | "asks"> {
  /** Whether it is the first part of everything: what the engine knows under the name used so far stays as it is. */
  readonly begins: boolean;
}

export class Books<Request extends Waiter> {
  readonly #counters: () => Counters<Request>;
  /** Where asking costs nothing, slots that are not used go back at once. */
  readonly #isExact: boolean;
  readonly #asks = new Asks();
  /** Slots held, by counter, as the engine has them. */
  readonly #stated = new Map<string, number>();
  /** Spare slots when it was last looked for idle ones. */
  readonly #spare = new Map<Counter, number>();
  /** Counters that may be held by name only, as this process has them no more. */
  readonly #gone = new Set<string>();
  #isFull = true;
  #isPartial = false;
  /** Counters that are said again for a beat. */
  #again: Iterator<string> | undefined;

  constructor(counters: () => Counters<Request>, isExact: boolean) {
    this.#counters = counters;
    this.#isExact = isExact;
  }

  /** Whether only parts of everything were said, so that the engine does not know yet all that is held. */
  get isPartial(): boolean {
    return this.#isPartial;
  }

  /** What the engine knows is not known any more: the next statement says everything. */
  forget(): void {
    this.#isFull = true;
    this.#asks.forget();
  }

  /** The engine takes no asks for a while. */
  forgetAsks(): void {
    this.#asks.forget();
  }

  /** Another policy: counters that have the limit they had keep their slots, the others give back what is not in use. */
  moved(from: Counters<Request>, to: Counters<Request>): void {
    for (const counter of to.remotes()) {
      const before = from.get(counter.key);
      const isSame = before?.limit === counter.limit;
      counter.open = Math.max(counter.inUse, isSame ? before.open : 0);
      counter.others = before?.others ?? 0;
      // Until the engine says how the new limit stands, what comes free goes back: more may be held than it allows.
      counter.contended = isSame ? before.contended : true;
      to.returned.add(counter);
    }
    for (const key of this.#stated.keys()) this.#gone.add(key);
    this.#spare.clear();
  }

  /** What has to be said: changes, or everything. */
  next({ isAlone, canAsk, allAsks, beat }: Occasion): Saying {
    const counters = this.#counters();
    const { returned, line } = counters;
    const full = this.#isFull;
    if (full) {
      for (const counter of counters.remotes()) returned.add(counter);
      this.#stated.clear();
      this.#gone.clear();
      this.#again = undefined;
    }
    const begins = full && returned.size > MOST_AT_ONCE;
    const most = full && !begins ? MOST_AT_ONCE : MOST_HOLDS;
    const holds = new Map<string, number>();
    const say = (counter: Counter): void => {
      const { inUse } = counter;
      const held = isAlone ? inUse : Math.max(inUse, counter.open);
      // What is stated is held, so that it is given back once it is not.
      if (!isAlone) counter.open = held;
      holds.set(counter.key, held);
    };
    for (const key of this.#gone) {
      if (holds.size === most) break;
      this.#gone.delete(key);
      // It may be there anew.
      const counter = counters.get(key);
      if (counter?.remote) returned.add(counter);
      else holds.set(key, 0);
    }
    for (const one of returned) {
      if (holds.size === most) break;
      returned.delete(one);
      // It may have been forgotten, and be there anew.
      say(counters.get(one.key) ?? one);
      if (holds.get(one.key) === (this.#stated.get(one.key) ?? 0)) holds.delete(one.key);
    }
    this.#isPartial = (begins || (this.#isPartial && !full)) && returned.size > 0;
    if (beat && this.#stated.size > MOST_HOLDS) this.#again ??= this.#stated.keys();
    while (this.#again && holds.size < most) {
      const { done, value } = this.#again.next();
      const counter = done ? undefined : counters.get(value);
      if (done) this.#again = undefined;
      else if (counter?.remote && !holds.has(value)) say(counter);
    }
    const asks: readonly Ask[] = canAsk && !this.#isPartial ? this.#asks.changes(line, full || allAsks) : [];
    return { full, begins, holds, asks };
  }

  /**
   * Makes the counters what a reply says. What changed here since the statement was made stays changed. Returns the
   * counters of which there are more slots now.
   */
  settle(statement: Statement, { standings, granted }: OkReply, wasAlone: boolean): readonly Counter[] {
    const counters = this.#counters();
    this.#isFull = false;
    for (const id of granted) this.#asks.granted(id);
    if (wasAlone) {
      for (const counter of counters.remotes()) {
        counter.open = counter.inUse;
        // More may be in use by now than was stated.
        counters.returned.add(counter);
      }
    }
    const freed: Counter[] = [];
    for (const { key, held, total, contended } of standings) {
      const before = statement.holds.get(key) ?? this.#stated.get(key) ?? 0;
      if (held === 0) this.#stated.delete(key);
      else this.#stated.set(key, held);
      const counter = counters.get(key);
      if (counter === undefined || !counter.remote) {
        // Nobody here needs it any more.
        if (held > 0) this.#gone.add(key);
        continue;
      }
      counter.others = total - held;
      counter.awaited = contended;
      if ((contended || total > counter.limit) && counter.idle > 0) counters.line.idle.add(counter);
      // More than the limit are held, after it was lowered or the engine was away: nobody uses them twice.
      counter.contended = contended || this.#isExact || total > counter.limit;
      counter.open = Math.max(0, counter.open + held - before);
      // Granted under a limit that was lowered since: it goes back unused.
      if (total > counter.limit) counters.hold(counter, Math.min(counter.open, counter.inUse));
      else if (held > before) freed.push(counter);
    }
    return freed;
  }

  /** Once everybody here took what he could: what is left of a counter that others wait for goes back. */
  giveBack({ standings }: OkReply): void {
    const counters = this.#counters();
    for (const { key } of standings) {
      const counter = counters.get(key);
      if (counter?.contended && counter.open > counter.inUse) counters.hold(counter, counter.inUse);
    }
  }

  /** Slots that were spare the last time, and still are, go back. Returns whether some are spare now. */
  giveIdleBack(): boolean {
    const counters = this.#counters();
    let isSpare = false;
    for (const counter of counters.remotes()) {
      const spare = counter.open - counter.inUse;
      const idle = Math.min(spare, this.#spare.get(counter) ?? 0);
      if (idle > 0) counters.hold(counter, counter.open - idle);
      if (spare - idle > 0) {
        this.#spare.set(counter, spare - idle);
        isSpare = true;
      } else this.#spare.delete(counter);
    }
    return isSpare;
  }
}
