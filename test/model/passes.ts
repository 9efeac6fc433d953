// Law 6 for the model of the table: nobody is passed over for ever, whose limits all come free again and again.
import type { Target } from "../../src/index.js";
import { type Asked, queueOf, type TableModel } from "./table-model.js";

/** The wait of the first request of a queue. */
interface Wait {
  readonly first: Asked;
  /** By counter: times a slot of it was given back since. */
  readonly freed: Map<string, number>;
}

export class Passes {
  readonly #table: TableModel;
  readonly #most: number;
  readonly #waits = new Map<string, Wait>();

  /** @param most times that all a queue lacks may come free before it is admitted */
  constructor(table: TableModel, most: number) {
    this.#table = table;
    this.#most = most;
  }

  /** The slots of a target have been given back. */
  free(target: Target): void {
    for (const { freed } of this.#waits.values()) {
      for (const { counter } of this.#table.claims(target)) freed.set(counter, (freed.get(counter) ?? 0) + 1);
    }
  }

  /** An operation is over. Throws if a queue has been passed over too often. */
  settle(): void {
    const heads = this.#table.heads();
    for (const [queue, { first }] of this.#waits) if (!heads.includes(first)) this.#waits.delete(queue);
    for (const first of heads) {
      const queue = queueOf(first.target);
      const wait = this.#waits.get(queue) ?? { first, freed: new Map<string, number>() };
      this.#waits.set(queue, wait);
      const blockers = this.#table.blockers(first.target);
      const passes = Math.min(...blockers.map(({ counter }) => wait.freed.get(counter) ?? 0));
      if (blockers.length > 0 && passes > this.#most)
        throw new Error(`Nobody starves: all that ${queue} lacks came free ${String(passes)} times while it waits`);
    }
  }
}
