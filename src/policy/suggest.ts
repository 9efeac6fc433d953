// "Did you mean": the closest of a few known words.

/** The fewest letters to insert, drop, replace or swap with a neighbour to make one word of the other. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let least = Math.min(at(last, column) + 1, at(current, column - 1) + 1, at(last, column - 1) + (same ? 0 : 1));
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        least = Math.min(least, at(before, column - 2) + 1);
      }
      current.push(least);
    }
    before = last;
    last = current;
  }
  return at(last, b.length);
}

const at = (numbers: readonly number[], index: number): number => numbers[index] ?? Number.POSITIVE_INFINITY;

/** The known word closest to `word` within `most` edits, or undefined. Words much longer or shorter are not compared. */
export function closest(word: string, known: Iterable<string>, most: (known: string) => number): string | undefined {
  let best: string | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const allowed = most(candidate);
    if (Math.abs(candidate.length - word.length) > allowed) continue;
    const edits = distance(word, candidate);
    if (edits <= allowed && edits < fewest) {
      best = candidate;
      fewest = edits;
    }
  }
  return best;
}

/** A slip of the keyboard: near enough that ignoring it would lose a limit somebody meant to set. */
export const nearMiss = (known: string): number => (known.length > 6 ? 2 : 1);

/** Near enough for a hint beside an error that is reported anyway. */
export const hint = (known: string): number => Math.floor(known.length / 3);
