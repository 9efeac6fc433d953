// For comparison only: the table that grants are proved against, and two waiting lines as one would write them first.

import { type Caps, capOf, KINDS, type Kind, limitsOf, type Tuple } from "./workloads.js";

export type Release = () => void;

/** Tells which tuple may go, and how to give its slots back. */
export type Granted = (tuple: Tuple, release: Release) => void;

/** A way to wait. `ask` grants at once or later. */
export interface Line {
  ask(tuple: Tuple): void;
}

class Counter {
  used = 0;
  readonly cap: number;
  /** Requests parked on it. */
  first: Waiter | undefined = undefined;
  last: Waiter | undefined = undefined;

  constructor(cap: number) {
    this.cap = cap;
  }
}

class Waiter {
  readonly tuple: Tuple;
  readonly counters: readonly Counter[];
  before: Waiter | undefined = undefined;
  after: Waiter | undefined = undefined;

  constructor(tuple: Tuple, counters: readonly Counter[]) {
    this.tuple = tuple;
    this.counters = counters;
  }
}

/** Counters that are never evicted, looked up without a thought for speed. */
export class NaiveTable {
  readonly #caps: Caps;
  readonly #counters = new Map<string, Counter>();
  readonly #tuples = new Map<Tuple, readonly Counter[]>();

  constructor(caps: Caps) {
    this.#caps = caps;
  }

  of(tuple: Tuple): readonly Counter[] {
    let counters = this.#tuples.get(tuple);
    if (counters === undefined) {
      counters = limitsOf(tuple, (key, kind) => {
        const counter = this.#counters.get(key) ?? new Counter(capOf(this.#caps, kind, key));
        this.#counters.set(key, counter);
        return counter;
      });
      this.#tuples.set(tuple, counters);
    }
    return counters;
  }

  /** Which of the five limits have no room. */
  fullFor(tuple: Tuple): readonly Kind[] {
    const counters = this.of(tuple);
    return KINDS.filter((_, at) => counters[at] !== undefined && isFull(counters[at]));
  }

  take(tuple: Tuple): void {
    for (const counter of this.of(tuple)) counter.used++;
  }

  drop(tuple: Tuple): void {
    for (const counter of this.of(tuple)) counter.used--;
  }
}

const isFull = ({ used, cap }: Counter): boolean => used >= cap;

function firstFull(counters: readonly Counter[]): Counter | undefined {
  // The server first: while it is full, nobody needs to be looked at any further.
  for (let i = counters.length - 1; i >= 0; i--) {
    const counter = counters[i] as Counter;
    if (isFull(counter)) return counter;
  }
  return undefined;
}

function append(to: { first: Waiter | undefined; last: Waiter | undefined }, waiter: Waiter): void {
  waiter.before = to.last;
  waiter.after = undefined;
  if (to.last === undefined) to.first = waiter;
  else to.last.after = waiter;
  to.last = waiter;
}

function remove(from: { first: Waiter | undefined; last: Waiter | undefined }, waiter: Waiter): void {
  if (waiter.before === undefined) from.first = waiter.after;
  else waiter.before.after = waiter.after;
  if (waiter.after === undefined) from.last = waiter.before;
  else waiter.after.before = waiter.before;
}

/** One list in the order in which they came; each release scans it for whoever fits, until the server is full. */
export class OneList implements Line {
  first: Waiter | undefined = undefined;
  last: Waiter | undefined = undefined;
  readonly #table: NaiveTable;
  readonly #granted: Granted;

  constructor(caps: Caps, granted: Granted) {
    this.#table = new NaiveTable(caps);
    this.#granted = granted;
  }

  ask(tuple: Tuple): void {
    const waiter = new Waiter(tuple, this.#table.of(tuple));
    if (firstFull(waiter.counters) === undefined) this.#grant(waiter);
    else append(this, waiter);
  }

  #grant({ tuple, counters }: Waiter): void {
    for (const counter of counters) counter.used++;
    this.#granted(tuple, () => {
      for (const counter of counters) counter.used--;
      this.#scan();
    });
  }

  #scan(): void {
    for (let waiter = this.first; waiter !== undefined; waiter = waiter.after) {
      const full = firstFull(waiter.counters);
      if (full === waiter.counters.at(-1)) return;
      if (full !== undefined) continue;
      remove(this, waiter);
      this.#grant(waiter);
    }
  }
}

/** Each request stands in the line of one full counter; a release asks the first of each line it freed a slot of. */
export class ParkedAlone implements Line {
  readonly #table: NaiveTable;
  readonly #granted: Granted;

  constructor(caps: Caps, granted: Granted) {
    this.#table = new NaiveTable(caps);
    this.#granted = granted;
  }

  ask(tuple: Tuple): void {
    this.#place(new Waiter(tuple, this.#table.of(tuple)));
  }

  #place(waiter: Waiter): void {
    const { tuple, counters } = waiter;
    const full = firstFull(counters);
    if (full !== undefined) {
      append(full, waiter);
      return;
    }
    for (const counter of counters) counter.used++;
    this.#granted(tuple, () => {
      for (const counter of counters) counter.used--;
      for (const counter of counters) this.#serve(counter);
    });
  }

  #serve(counter: Counter): void {
    while (counter.used < counter.cap && counter.first !== undefined) {
      const waiter = counter.first;
      remove(counter, waiter);
      this.#place(waiter);
    }
  }
}

/** A semaphore of one slot that is nothing but promises in a list. */
export class PromiseList {
  #waiting: ((release: Release) => void)[] = [];
  #head = 0;
  #taken = false;
  readonly #release = (): void => {
    const next = this.#waiting[this.#head++];
    if (next === undefined) {
      this.#waiting = [];
      this.#head = 0;
      this.#taken = false;
    } else next(this.#release);
  };

  acquire(): Promise<Release> {
    if (this.#taken) return new Promise((resolve) => this.#waiting.push(resolve));
    this.#taken = true;
    return Promise.resolve(this.#release);
  }
}
