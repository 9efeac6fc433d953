// What is kept while a simulation runs: of each limit how full it was, of each target how long its requests waited.

import type { Milliseconds, Target } from "../types.js";

/** The use of one limit over time, in slices of equal length. */
export class Curve {
  readonly slice: Milliseconds;
  /** Connections in the mean, and at most. */
  readonly mean: number[];
  readonly peak: number[];

  constructor(span: Milliseconds, slices: number) {
    this.slice = span / slices;
    this.mean = Array.from({ length: slices }, () => 0);
    this.peak = Array.from({ length: slices }, () => 0);
  }

  add(from: Milliseconds, to: Milliseconds, inUse: number): void {
    const last = Math.min(this.mean.length - 1, Math.floor(to / this.slice));
    for (let index = Math.floor(from / this.slice); index <= last; index++) {
      const inside = Math.min(to, (index + 1) * this.slice) - Math.max(from, index * this.slice);
      this.mean[index] = (this.mean[index] ?? 0) + (inUse * Math.max(0, inside)) / this.slice;
      this.peak[index] = Math.max(this.peak[index] ?? 0, inUse);
    }
  }
}

/** How full one limit was, and what it cost. It counts for itself what the limiter admitted, and enforces nothing. */
export class Tally {
  readonly key: string;
  readonly limit: number;
  /** One of the targets it applies to. */
  readonly example: Target;
  readonly curve: Curve | undefined;
  inUse = 0;
  waiting = 0;
  peak = 0;
  /** Requests that came while it was full, and had to wait. */
  heldUp = 0;
  /** Connections × milliseconds. */
  used = 0;
  full: Milliseconds = 0;
  /** Time that requests waited while it was full. */
  waited: Milliseconds = 0;
  #since: Milliseconds = 0;

  constructor(key: string, limit: number, example: Target, curve: Curve | undefined) {
    this.key = key;
    this.limit = limit;
    this.example = example;
    this.curve = curve;
  }

  /** So many connections and waiting requests more, or fewer. */
  change(now: Milliseconds, connections: number, requests: number): void {
    this.settle(now);
    if (requests > 0 && this.#isFull) this.heldUp++;
    this.inUse += connections;
    this.waiting += requests;
    if (this.inUse > this.peak) this.peak = this.inUse;
  }

  /** Adds up the time since the last change. */
  settle(now: Milliseconds): void {
    const time = now - this.#since;
    if (time === 0) return;
    this.#since = now;
    this.used += this.inUse * time;
    this.curve?.add(now - time, now, this.inUse);
    if (!this.#isFull) return;
    this.full += time;
    this.waited += this.waiting * time;
  }

  get #isFull(): boolean {
    return this.inUse >= this.limit;
  }
}

/** Waits as a distribution: each to three digits, so that its size is bounded however many there are. */
export class Waits {
  /** Of all, those that did not wait included. */
  count = 0;
  /** Those that waited. */
  delayed = 0;
  total: Milliseconds = 0;
  longest: Milliseconds = 0;
  /** Made when first needed: most domains of a big log never wait. */
  #counts: Map<Milliseconds, number> | undefined;

  add(wait: Milliseconds): void {
    this.count++;
    if (wait === 0) return;
    this.total += wait;
    this.longest = Math.max(this.longest, wait);
    this.#add(threeDigits(wait), 1);
  }

  addAll(others: Waits): void {
    this.count += others.count;
    this.total += others.total;
    this.longest = Math.max(this.longest, others.longest);
    for (const [wait, count] of others.#counts ?? []) this.#add(wait, count);
  }

  #add(wait: Milliseconds, count: number): void {
    this.#counts ??= new Map();
    this.#counts.set(wait, (this.#counts.get(wait) ?? 0) + count);
    this.delayed += count;
  }

  /** The shortest wait that so large a part of the requests did not exceed. */
  quantile(part: number): Milliseconds {
    let above = this.count - Math.ceil(part * this.count);
    for (const [wait, count] of [...(this.#counts ?? [])].sort(([a], [b]) => b - a)) {
      if (above < count) return Math.min(wait, this.longest);
      above -= count;
    }
    return 0;
  }
}

function threeDigits(wait: Milliseconds): Milliseconds {
  const unit = wait < 1000 ? 1 : 10 ** (Math.floor(Math.log10(wait)) - 2);
  return Math.round(wait / unit) * unit;
}

/** What became of the requests for one target. */
export class Account {
  readonly target: Target;
  asked = 0;
  admitted = 0;
  /** Gave up at their timeout. */
  timedOut = 0;
  /** Refused, as too many waited. */
  refused = 0;
  /** Until admitted, until given up, or until the end of the run. */
  readonly waits: Waits = new Waits();
  /** The limits that apply. */
  readonly tallies: readonly Tally[];

  constructor(target: Target, tallies: readonly Tally[]) {
    this.target = target;
    this.tallies = tallies;
  }

  add(other: Account): void {
    this.asked += other.asked;
    this.admitted += other.admitted;
    this.timedOut += other.timedOut;
    this.refused += other.refused;
    this.waits.addAll(other.waits);
  }
}
