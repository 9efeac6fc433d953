// Which stanzas of a container a name falls into: the literal one first, then the patterns in the order written.

import { LRUCache } from "lru-cache";
import type { Names, Scope } from "../policy/policy.js";

const NONE: readonly Scope[] = [];

/** Remembers the matches of the names seen last; patterns are the only part of a look-up that costs. */
export class Matcher {
  readonly #size: number;
  /** Made when the first pattern is asked: a policy without patterns needs no memory for it. */
  #matches: LRUCache<string, Map<Names, readonly Scope[]>> | undefined;

  /** @param size most names remembered */
  constructor(size: number) {
    this.#size = size;
  }

  /** The stanzas a normal name falls into, most specific first. */
  stanzas(names: Names, name: string): readonly Scope[] {
    const literal = names.literals.get(name);
    if (names.patterns.size === 0) return literal === undefined ? NONE : [literal];
    const matching = this.#patterns(names, name);
    return literal === undefined ? matching : [literal, ...matching];
  }

  #patterns(names: Names, name: string): readonly Scope[] {
    this.#matches ??= new LRUCache({ max: this.#size });
    let known = this.#matches.get(name);
    if (known === undefined) {
      known = new Map();
      this.#matches.set(name, known);
    }
    let matching = known.get(names);
    if (matching === undefined) {
      matching = [...names.patterns.values()].filter((scope) => scope.pattern?.matcher.test(name));
      known.set(names, matching);
    }
    return matching;
  }
}
