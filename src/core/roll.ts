// Doubly linked rolls: whoever is on one can leave from the middle as cheaply as from the front.

/** Something that can stand on one roll at a time. */
export interface Linked<T> {
  before: T | undefined;
  after: T | undefined;
}

/** In the order in which they came. */
export class Roll<T extends Linked<T>> {
  first: T | undefined = undefined;
  last: T | undefined = undefined;
  length = 0;

  /** At the end. */
  add(one: T): void {
    one.before = this.last;
    if (this.last === undefined) this.first = one;
    else this.last.after = one;
    this.last = one;
    this.length++;
  }

  /** One that is on this roll. */
  remove(one: T): void {
    if (one.before === undefined) this.first = one.after;
    else one.before.after = one.after;
    if (one.after === undefined) this.last = one.before;
    else one.after.before = one.before;
    one.before = undefined;
    one.after = undefined;
    this.length--;
  }

  /** Oldest first. The one being visited may leave meanwhile. */
  *[Symbol.iterator](): IterableIterator<T> {
    for (let one = this.first; one !== undefined; ) {
      const next: T | undefined = one.after;
      yield one;
      one = next;
    }
  }
}
