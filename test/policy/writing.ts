// Draws policies, the ways to write one down, and the ways to get it wrong.

import fc from "fast-check";
import type { PolicyInput } from "../../src/index.js";

const EVERYWHERE = ["max", "scope_max", "cluster_scope_max"];
const UPPER = [...EVERYWHERE, "server_max", "cluster_server_max"];
/** The options of each kind of scope, without `_outbound_connections`. */
const OPTIONS = {
  global: [...UPPER, "server_reserve", "cluster_max"],
  binding_group: UPPER,
  binding: [...UPPER, "cluster_max"],
  grouped: UPPER,
  name: [...EVERYWHERE, "cluster_max"],
} as const;

type Limits = Record<string, number>;
type Stanzas = Record<string, Record<string, unknown>>;

const limits = (kind: keyof typeof OPTIONS): fc.Arbitrary<Limits> =>
  fc.dictionary(
    fc.constantFrom(...OPTIONS[kind]).map((option) => `${option}_outbound_connections`),
    fc.constantFrom(-1, 0, 1, 7, 32, 75_000, 2 ** 31),
    { maxKeys: 2, noNullPrototype: true },
  );

export const DOMAINS: readonly string[] = [
  "a.example",
  "b.example",
  "192.0.2.1",
  "[IPv6:2001:db8::1]",
  "bücher.example",
  "_1",
  "constructor",
];
const PATTERNS = [
  "/a/",
  "/^(a|b)\\.example$/",
  "/[\"'#]/",
  "/\\\\/",
  "/x\\/y/",
  "/a{2}/",
  "/ b/",
  "/(?i)É/",
  "/\\.fr$/",
];
export const BINDINGS: readonly string[] = [
  "mta-1",
  "MTA-1",
  "default",
  'a"b',
  "a\\b",
  "a\\\\",
  "it's",
  "a#b",
  "c/*d",
  "}",
  "constructor",
  "é",
];

const stanzas = (names: readonly string[], inside: fc.Arbitrary<Record<string, unknown>>): fc.Arbitrary<Stanzas> =>
  fc.dictionary(fc.constantFrom(...names), inside, { maxKeys: 3, noNullPrototype: true });

const container = (kind: keyof typeof OPTIONS): fc.Arbitrary<Record<string, unknown>> =>
  fc
    .tuple(
      limits(kind),
      stanzas([...DOMAINS, ...PATTERNS], limits("name")),
      stanzas([...DOMAINS, ...PATTERNS], limits("name")),
    )
    .map(([own, domain, host]) => ({
      ...own,
      ...(Object.keys(domain).length > 0 && { domain }),
      ...(Object.keys(host).length > 0 && { host }),
    }));

/** A policy without mistakes. A binding is in no group, in one by name, or in one by nesting. */
export const policies: fc.Arbitrary<PolicyInput> = fc
  .record({
    root: container("global"),
    groups: fc.record({ g: container("binding_group"), h: container("binding_group") }),
    bindings: fc.uniqueArray(
      fc.record({
        name: fc.constantFrom(...BINDINGS),
        group: fc.constantFrom("", "", "g", "h"),
        nested: fc.boolean(),
        alone: container("binding"),
        inside: container("grouped"),
      }),
      { maxLength: 3, selector: ({ name }) => name },
    ),
  })
  .map(({ root, groups, bindings }) => {
    const nestedIn = (wanted: string): Stanzas =>
      Object.fromEntries(
        bindings.filter(({ group, nested }) => nested && group === wanted).map(({ name, inside }) => [name, inside]),
      );
    const outside = bindings
      .filter(({ group, nested }) => group === "" || !nested)
      .map(({ name, group, alone }) => [name, group === "" ? alone : { binding_group: group, ...alone }]);
    const binding_group = Object.fromEntries(
      Object.entries(groups).map(([name, group]) => [
        name,
        { ...group, ...(Object.keys(nestedIn(name)).length > 0 && { binding: nestedIn(name) }) },
      ]),
    );
    return { ...root, binding_group, binding: Object.fromEntries(outside) };
  });

const GAPS = [" ", " ", " ", "\n", "\r\n", "\t", "\n\n  ", " # a comment { \" '\n", ' /* = { \n " */ '];

/** A policy as text, written in one of the many ways that mean the same; `pick` draws one of its arguments. */
export function written(policy: object, pick: <T>(...from: readonly T[]) => T): string {
  const gap = (): string => pick(...GAPS);
  const keyword = (word: string): string =>
    pick(
      word,
      word,
      word.toUpperCase(),
      word.replace(/^.|_./g, (letter) => letter.toUpperCase()),
    );
  const quoted = (name: string): string => {
    const ways = [`"${name.replace(/["\\]/g, "\\$&")}"`];
    if (!name.includes("'")) ways.push(`'${name}'`);
    if (/^[\w.-]+$/.test(name)) ways.push(name);
    return pick(...ways);
  };
  const named = (name: string): string =>
    /^\/(?:[^\\/]|\\.)*\/$/.test(name) ? pick(quoted(name), name) : quoted(name);
  return Object.entries(policy)
    .flatMap(([key, value]: [string, unknown]) => {
      if (typeof value === "number") return [`${keyword(key)}${gap()}=${gap()}${pick(String(value), `"${value}"`)}`];
      if (typeof value === "string") return [`${keyword(key)} = ${quoted(value)}`];
      return Object.entries(value as Stanzas).map(
        ([name, inside]) => `${keyword(key)}${gap()}${named(name)}${gap()}{${gap()}${written(inside, pick)}${gap()}}`,
      );
    })
    .join(gap());
}

const PIECES: readonly string[] = [
  ...Array.from("{}[]()=\"'\\/#*,;:\n\t \r"),
  ...Array.from("\u001b\u0000\ufeff\u2028\ud800é"),
  ...Array.from('{}"\n= '),
  "\r\n",
  "/*",
  "*/",
  "//",
  "😀",
  " = ",
  " {\n",
  "\n}\n",
  "domain",
  "host ",
  "binding ",
  "binding_group ",
  "binding_group = g",
  "max_outbound_connections",
  "max_outbound_connections = 5\n",
  "max_outbund_connections",
  "scope_max_outbound_connections = ",
  "server_reserve_outbound_connections = -1",
  "cluster_max_outbound_connections = 2",
  "domian",
  "frobnicate",
  "Relay_Hosts = ( 127.0.0.0/8 10.0.0.0/8 )",
  "Map = [ a = 1 b = ( 1 2 ) ]",
  'include "a.conf"',
  "apn { }",
  "d.example ",
  '"d.example"',
  "'b'",
  "/a/",
  '"/^(a|b)$/"',
  "/(?=a)/",
  "(?<!",
  "\\1",
  "a++",
  "-1",
  "5",
  "0644",
  "a..b",
  "x".repeat(300),
];

const pieces = fc.constantFrom(...PIECES);

/** Text made of the syntax's own characters and words. */
export const texts: fc.Arbitrary<string> = fc.array(pieces, { maxLength: 60 }).map((drawn) => drawn.join(""));

/** A slip of the hand: a piece put in, taken out, written twice, or put in the place of another. */
interface Slip {
  readonly kind: "insert" | "delete" | "repeat" | "replace" | "cut";
  readonly at: number;
  readonly length: number;
  readonly piece: string;
}
export const slips: fc.Arbitrary<readonly Slip[]> = fc.array(
  fc.record({
    kind: fc.constantFrom("insert", "delete", "repeat", "replace", "cut"),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.constantFrom(1, 1, 1, 2, 5, 30),
    piece: pieces,
  }),
  { minLength: 1, maxLength: 4 },
);

export function withSlips(text: string, made: readonly Slip[]): string {
  return made.reduce((before, { kind, at, length, piece }) => {
    const start = Math.floor(at * before.length);
    const end = start + length;
    if (kind === "insert") return before.slice(0, start) + piece + before.slice(start);
    if (kind === "delete") return before.slice(0, start) + before.slice(end);
    if (kind === "repeat") return before.slice(0, end) + before.slice(start);
    if (kind === "replace") return before.slice(0, start) + piece + before.slice(end);
    return before.slice(0, start);
  }, text);
}
