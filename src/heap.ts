// A binary heap: the first of many is at hand, whatever order they come in.

export class Heap<T> {
  readonly #compare: (a: T, b: T) => number;
  readonly #all: T[];

  /** @param compare as for a sort */
  constructor(compare: (a: T, b: T) => number, all: Iterable<T> = []) {
    this.#compare = compare;
    // A sorted list is a heap.
    this.#all = [...all].sort(compare);
  }

  get first(): T | undefined {
    return this.#all[0];
  }

  get length(): number {
    return this.#all.length;
  }

  add(one: T): void {
    const all = this.#all;
    let at = all.length;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const above = all[up] as T;
      if (this.#compare(above, one) <= 0) break;
      all[at] = above;
      at = up;
    }
    all[at] = one;
  }

  /** Of a heap that is not empty. */
  removeFirst(): void {
    const all = this.#all;
    const last = all.pop() as T;
    if (all.length === 0) return;
    let at = 0;
    for (let down = 1; down < all.length; down = 2 * at + 1) {
      if (down + 1 < all.length && this.#compare(all[down + 1] as T, all[down] as T) < 0) down++;
      const below = all[down] as T;
      if (this.#compare(last, below) <= 0) break;
      all[at] = below;
      at = down;
    }
    all[at] = last;
  }

  /** All of them, in no order. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#all.values();
  }
}
