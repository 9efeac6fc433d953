// What a member holds of the cluster's slots, what of that the engine knows, and what has to be said to it.

import type { Counters } from "../core/counters.js";
import type { Counter, Waiter } from "../core/plan.js";
import { Asks } from "./asks.js";
import type { Ask, Reply, Statement } from "./engine.js";

/** Most counters in one statement; the rest goes into the next. */
const MOST_HOLDS = 2_000;

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
export type Saying = Pick<Statement, "full" | "holds" | "asks">;

export class Books<Request extends Waiter> {
  readonly #counters: () => Counters<Request>;
  /** Where asking costs nothing, slots that are not used go back at once. */
  readonly #isExact: boolean;
  readonly #asks = new Asks();
  /** Slots held, by counter, as the engine has them. */
  readonly #stated = new Map<string, number>();
  /** Spare slots when it was last looked for idle ones. */
  readonly #spare = new Map<Counter, number>();
  /** Counters of which the engine may have another number than is known here. Said whatever it is. */
  readonly #unsure = new Set<string>();
  /** Counters that it may have, and this process has no more. */
  readonly #gone = new Set<string>();
  /** Counters that are said again for a beat. */
  #again: Iterator<string> | undefined;
  #isUnknown = true;
  #isUnheard = false;

  constructor(counters: () => Counters<Request>, isExact: boolean) {
    this.#counters = counters;
    this.#isExact = isExact;
  }

  /** Whether the engine may not know of all that is held, as not all of that is said yet. */
  get isPartial(): boolean {
    return this.#unsure.size > 0;
  }

  /** The engine has nothing of this process. */
  unknown(): void {
    this.#isUnknown = true;
    this.#asks.forget();
  }

  /** Whether the engine heard a statement is not known, and so not what it granted with its answer. */
  unheard({ holds, asks }: Statement): void {
    this.#asks.unheard(asks);
    this.#isUnheard = true;
    for (const key of holds.keys()) this.#unsure.add(key);
    for (const { key } of this.#asks.counters()) this.#unsure.add(key);
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
      // More than the engine knows of is in use.
      if (counter.open > (this.#stated.get(counter.key) ?? 0)) this.#unsure.add(counter.key);
    }
    for (const key of this.#stated.keys()) this.#gone.add(key);
    this.#again = undefined;
    this.#spare.clear();
  }

  /** What has to be said: what the engine may not know, and changes. */
  next({ isAlone, canAsk, allAsks, beat }: Occasion): Saying {
    const counters = this.#counters();
    const { returned, line } = counters;
    const full = this.#isUnknown;
    if (full) {
      this.#stated.clear();
      this.#unsure.clear();
      this.#again = undefined;
      for (const { key, inUse, open } of counters.remotes()) if (inUse > 0 || open > 0) this.#unsure.add(key);
    } else if (this.#isUnheard) {
      // What this process has allowed itself meanwhile.
      for (const counter of counters.remotes()) {
        returned.add(counter);
        if (heldOf(counter, isAlone) > (this.#stated.get(counter.key) ?? 0)) this.#unsure.add(counter.key);
      }
    }
    this.#isUnheard = false;

    const holds = new Map<string, number>();
    const say = (key: string): void => void holds.set(key, heldOf(counters.get(key), isAlone));
    const sayChanged = (key: string): void => {
      if (holds.has(key)) return;
      const held = heldOf(counters.get(key), isAlone);
      if (held !== (this.#stated.get(key) ?? 0)) holds.set(key, held);
    };
    for (const key of this.#unsure) {
      if (holds.size === MOST_HOLDS) break;
      this.#unsure.delete(key);
      say(key);
    }
    for (const key of this.#gone) {
      if (holds.size === MOST_HOLDS) break;
      this.#gone.delete(key);
      sayChanged(key);
    }
    for (const counter of returned) {
      if (holds.size === MOST_HOLDS) break;
      returned.delete(counter);
      sayChanged(counter.key);
    }
    if (beat && !this.isPartial && this.#stated.size > MOST_HOLDS) this.#again ??= this.#stated.keys();
    while (this.#again && holds.size < MOST_HOLDS) {
      const { done, value } = this.#again.next();
      if (done) this.#again = undefined;
      else if (!holds.has(value)) say(value);
    }
    const asks: readonly Ask[] = canAsk && !this.isPartial ? this.#asks.changes(line, full || allAsks) : [];
    return { full, holds, asks };
  }

  /**
   * Makes the counters what a reply says. What changed here since the statement was made stays changed. Returns the
   * counters of which there are more slots now.
   */
  settle(statement: Statement, { standings, granted }: OkReply, wasAlone: boolean): readonly Counter[] {
    const counters = this.#counters();
    const { isPartial } = this;
    this.#isUnknown = false;
    this.#asks.heard(statement.asks);
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
      // Nor is there anything to be used again as long as not all is said.
      counter.contended = contended || this.#isExact || isPartial || total > counter.limit;
      // What is said again in another part is not settled by this one.
      if (!this.#unsure.has(key)) counter.open = Math.max(0, counter.open + held - before);
      // Granted under a limit that was lowered since, or while not all is said: it goes back unused.
      if (isPartial || total > counter.limit) counters.hold(counter, Math.min(counter.open, counter.inUse));
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

/** How many slots of a counter, if there is one of the cluster, are held. */
function heldOf(counter: Counter | undefined, isAlone: boolean): number {
  if (!counter?.remote) return 0;
  if (isAlone) return counter.inUse;
  // What is stated is held, so that it is given back once it is not.
  counter.open = Math.max(counter.inUse, counter.open);
  return counter.open;
}
