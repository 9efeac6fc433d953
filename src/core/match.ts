// Which stanzas of a container a name falls into: the literal one first, then the patterns in the order written.

import { LRUCache } from "lru-cache";
import type { Names, PolicyData, Scope } from "../policy/policy.js";
import { PatternSet } from "./patterns.js";

const NONE: readonly Scope[] = [];

/** The patterns that one name matches in one container; in the others, `next` and so on. */
interface Matches {
  readonly names: Names;
  readonly matching: readonly Scope[];
  readonly next: Matches | undefined;
}

/** Of the containers of all policies in use: several limiters may share one. */
const SETS = new WeakMap<Names, PatternSet<Scope>>();

/** Remembers the matches of the names seen last; patterns are the only part of a look-up that costs. */
export class Matcher {
  readonly #size: number;
  /** Made when the first pattern is asked: a policy without patterns needs no memory for it. */
  #matches: LRUCache<string, Matches> | undefined;

  /** @param size most names remembered */
  constructor(size: number) {
    this.#size = size;
  }

  /** Makes ready for a policy beforehand: with many patterns that takes longer than one look-up may. */
  prepare({ root }: PolicyData): void {
    const prepareScope = ({ domains, hosts, bindings, groups }: Scope): void => {
      for (const names of [domains, hosts]) if (names.patterns.size > 0) setOf(names);
      for (const scope of [...bindings.values(), ...groups.values()]) prepareScope(scope);
    };
    prepareScope(root);
  }

  /** The stanzas a normal name falls into, most specific first. */
  stanzas(names: Names, name: string): readonly Scope[] {
    const literal = names.literals.get(name);
    const matching = names.patterns.size === 0 ? NONE : this.#matching(names, name);
    return literal === undefined ? matching : [literal, ...matching];
  }

  /** Whether there is one. */
  hasStanza(names: Names, name: string): boolean {
    return names.literals.has(name) || (names.patterns.size > 0 && this.#matching(names, name).length > 0);
  }

  #matching(names: Names, name: string): readonly Scope[] {
    this.#matches ??= new LRUCache({ max: this.#size });
    const known = this.#matches.get(name);
    for (let matches = known; matches !== undefined; matches = matches.next) {
      if (matches.names === names) return matches.matching;
    }
    const matching = setOf(names).match(name);
    this.#matches.set(name, { names, matching, next: known });
    return matching;
  }
}

function setOf(names: Names): PatternSet<Scope> {
  let set = SETS.get(names);
  if (set === undefined) {
    set = new PatternSet([...names.patterns.values()]);
    SETS.set(names, set);
  }
  return set;
}
