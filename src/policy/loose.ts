// Patterns that match more than they seem to mean: an end left open behind a whole name, a dot that is any character.

import type { Pattern } from "./policy.js";
import { alternativesOf, bareDots, EVERYTHING, escapeDots, type Shape, shapeOf } from "./shape.js";

/** What a pattern matches that was hardly meant, and what to write instead. */
export interface Looseness {
  readonly problem: string;
  readonly help: string;
}

/** What is loose about a pattern. Only what it does match is said, and only where it is plain what it seems to mean. */
export function looseness(pattern: Pattern): Looseness | undefined {
  const meant = shapeOf(pattern.source, "meant");
  return meant === undefined || meant === EVERYTHING
    ? undefined
    : (openEnds(pattern, meant) ?? anyCharacter(pattern, meant));
}

/** A whole name, and neither end of it fixed. */
function openEnds({ source, matcher }: Pattern, { texts, start, end }: Shape): Looseness | undefined {
  // Whoever fixed one end, or wrote `.*` behind the name, knows what the other one does.
  if (start === "fixed" || end !== "unsaid") return undefined;
  const name = texts.find((text) => /\.(?:[a-z]{2,}|xn--[a-z0-9-]+)$/.test(text));
  if (name === undefined) return undefined;
  const isSuffix = name.startsWith(".");
  const strangers = [...(isSuffix ? [] : [`not${name}`]), `${isSuffix ? "mail" : ""}${name}.example.net`];
  if (!strangers.every((stranger) => matcher.test(stranger))) return undefined;
  const bare = escapeDots(start === "open" ? source.slice(".*".length) : source);
  const body = alternativesOf(bare).length > 1 ? `(?:${bare})` : bare;
  const below = `\`/${isSuffix ? "" : "(?:^|[.])"}${body}$/\``;
  return {
    problem: `\`/${source}/\` has no \`^\` and no \`$\`: it matches ${strangers.map((name) => `\`${name}\``).join(" and ")}, too`,
    help: isSuffix
      ? `write ${below}`
      : `write \`/^${body}$/\` for that name alone, ${below} for all names below it as well`,
  };
}

/** A dot without a backslash, where another character in its place still makes a name of a known end. */
function anyCharacter({ source, matcher }: Pattern, { start, end }: Shape): Looseness | undefined {
  for (const at of bareDots(source)) {
    const replaced = `${source.slice(0, at)}-${source.slice(at + 1)}`;
    const [text] = shapeOf(replaced, "meant")?.texts ?? [];
    if (text === undefined) continue;
    const stranger = `${start === "fixed" ? "" : "x"}${text}${end === "fixed" ? "" : text.endsWith("-") ? "x.example" : ".example"}`;
    if (!stranger.slice(0, -1).includes(".") || !matcher.test(stranger)) continue;
    return {
      problem: `\`.\` in \`/${source}/\` is any character: it matches \`${stranger}\`, too`,
      help: `write \`/${escapeDots(source)}/\``,
    };
  }
  return undefined;
}
