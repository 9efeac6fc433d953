// What a member asks of the engine: the sets of slots its queues wait for, and what of that the engine knows.

import type { Line } from "../core/line.js";
import type { Counter, Plan } from "../core/plan.js";
import type { Ask } from "./engine.js";

/** Queues of one counter that are asked for at one time: enough for the engine to go on with while an answer is under way. */
const QUEUES_OF_A_COUNTER = 4;
/** Most sets in one statement; the rest goes into the next. */
const MOST_ASKS = 500;
/** Most slots of one set asked for at one time. */
const MOST_COUNT = 1_000;

interface Known {
  readonly id: number;
  /** As the engine has it. */
  count: number;
}

export class Asks {
  readonly #known = new Map<Plan, Known>();
  readonly #plans = new Map<number, Plan>();
  /** Withdrawn, which the engine has not confirmed. */
  readonly #dropped = new Map<number, Plan>();
  #lastId = 0;

  /** The engine knows none of them any more. */
  forget(): void {
    this.#known.clear();
    this.#plans.clear();
    this.#dropped.clear();
  }

  /** The engine heard these. */
  heard(asks: readonly Ask[]): void {
    for (const { id } of asks) this.#dropped.delete(id);
  }

  /** Whether the engine heard these is not known: they are said again. */
  unheard(asks: readonly Ask[]): void {
    for (const { id } of asks) {
      const plan = this.#plans.get(id);
      const known = plan && this.#known.get(plan);
      if (known !== undefined) known.count = 0;
    }
  }

  /** The counters of which slots may have been granted, where an answer was not heard. */
  *counters(): Iterable<Counter> {
    for (const plans of [this.#known.keys(), this.#dropped.values()]) {
      for (const plan of plans) yield* remotesOf(plan);
    }
  }

  /** The engine granted a set of this ask. */
  granted(id: number): void {
    const plan = this.#plans.get(id);
    const known = plan && this.#known.get(plan);
    if (plan === undefined || known === undefined) return;
    known.count--;
    if (known.count === 0) this.#drop(plan, id);
  }

  /** What has to be stated: where the line asks for more or less than the engine knows of, or `all` of it. */
  changes(line: Line, all: boolean): Ask[] {
    const wanted = wantedBy(line);
    const changes: Ask[] = [];
    for (const [plan, { id }] of this.#known) {
      if (wanted.has(plan)) continue;
      this.#dropped.set(id, plan);
      this.#drop(plan, id);
    }
    for (const id of this.#dropped.keys()) changes.push({ id, count: 0, slots: [] });
    for (const [plan, count] of wanted) {
      if (changes.length >= MOST_ASKS) break;
      const known = this.#known.get(plan);
      if (!all && known?.count === count) continue;
      const id = known?.id ?? ++this.#lastId;
      this.#known.set(plan, { id, count });
      this.#plans.set(id, plan);
      changes.push({ id, count, slots: remotesOf(plan) });
    }
    return changes;
  }

  #drop(plan: Plan, id: number): void {
    this.#known.delete(plan);
    this.#plans.delete(id);
  }
}

/** The counters of a plan whose slots come from the cluster. */
function remotesOf(plan: Plan): readonly Counter[] {
  return plan.counters.filter(({ remote }) => remote);
}

/** The queues that lack nothing but slots of the cluster, first those whose turn it is, and how many slots each can use. */
function wantedBy(line: Line): ReadonlyMap<Plan, number> {
  const wanted = new Map<Plan, number>();
  for (const counter of line.pressed) {
    const parked = counter.waiting?.parked;
    if (parked === undefined || parked.length === 0) {
      line.pressed.delete(counter);
      continue;
    }
    let queues = 0;
    for (const plan of parked) {
      const count = Math.min(plan.queue.length, MOST_COUNT, roomFor(plan));
      if (count > 0) wanted.set(plan, count);
      if (count > 0 && ++queues === QUEUES_OF_A_COUNTER) break;
    }
  }
  return wanted;
}

/** How many connections more the limits of this process allow. */
function roomFor({ counters, isLowVolume }: Plan): number {
  let room = Number.POSITIVE_INFINITY;
  for (const counter of counters) if (!counter.remote) room = Math.min(room, roomIn(counter, isLowVolume));
  return room;
}

function roomIn({ inUse, open, ceiling }: Counter, isLowVolume: boolean): number {
  const room = open - inUse;
  // Of the reserve a target may use one, and then it is no longer of low volume.
  return room <= 0 && isLowVolume && inUse < ceiling ? 1 : room;
}
