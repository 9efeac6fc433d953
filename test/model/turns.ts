// Law 5 for the model of the table: between queues that compete for one limit, in turn.
import type { Target } from "../../src/index.js";
import { type Asked, queueOf, type TableModel } from "./table-model.js";

export class Turns {
  readonly #table: TableModel;
  /** By queue that waits: how often each other queue has been served in its stead. */
  readonly #overtaken = new Map<string, Map<string, number>>();
  /** By queue: the one counter that held it up after the last operation. */
  #heldUpBy: ReadonlyMap<string, string> = new Map();

  constructor(table: TableModel) {
    this.#table = table;
  }

  /**
   * A request is about to be served. Throws if that is a second time while a queue waits that needs the same limit, was
   * held up by it alone, and could go now. Whoever a slot may be kept for goes out of turn.
   * @param left will be served in the same hand-over
   */
  serve(asked: Asked, left: ReadonlySet<Asked>): void {
    const table = this.#table;
    const queue = queueOf(asked.target);
    this.#overtaken.delete(queue);
    if (table.keepers().includes(asked.target)) return;
    for (const other of table.heads()) {
      const waits = queueOf(other.target);
      const limit = table.claims(asked.target).find(({ counter }) => counter === this.#heldUpBy.get(waits));
      if (limit === undefined || waits === queue || left.has(other)) continue;
      if (table.admission(other.target, table.keepers(other)) === undefined) continue;
      let by = this.#overtaken.get(waits) ?? new Map<string, number>();
      // The hosts of a domain share a turn in the reserve: once one of them was served, the others' begins anew.
      if (isOtherHost(asked.target, other.target)) by = new Map([[queue, by.get(queue) ?? 0]]);
      this.#overtaken.set(waits, by);
      const times = (by.get(queue) ?? 0) + 1;
      by.set(queue, times);
      // Where the reserve applies, a queue takes turns among those that it lets past, and among all.
      if (times > (limit.lifted && table.rules.reserve > 0 ? 2 : 1))
        throw new Error(`Fair between queues: ${queue} is served ${String(times)} times while ${waits} could go`);
    }
  }

  /** An operation is over. Whoever is held up by something else now, or by more than one limit, takes turns there. */
  settle(): void {
    const heldUpBy = new Map<string, string>();
    for (const { target } of this.#table.heads()) {
      const [only, ...others] = this.#table.blockers(target, this.#table.keepers());
      if (only !== undefined && others.length === 0) heldUpBy.set(queueOf(target), only.counter);
    }
    for (const queue of [...this.#overtaken.keys()]) {
      const limit = heldUpBy.get(queue);
      if (limit === undefined || limit !== this.#heldUpBy.get(queue)) this.#overtaken.delete(queue);
    }
    this.#heldUpBy = heldUpBy;
  }
}

function isOtherHost(one: Target, other: Target): boolean {
  return one.binding === other.binding && one.domain === other.domain;
}
