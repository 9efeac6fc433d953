// Random policies and targets for the property tests, and a printer of policy text that shares no code with src.
import fc from "fast-check";
import type { ContainerInput, LimitOption, Limits, PolicyInput, Target } from "../../src/index.js";

const everywhere: LimitOption[] = [
  "max_outbound_connections",
  "scope_max_outbound_connections",
  "cluster_scope_max_outbound_connections",
];
const serverMax: LimitOption[] = ["server_max_outbound_connections", "cluster_server_max_outbound_connections"];

/** Where each option may be written, from the table "Options" of the rules. */
const validIn = {
  global: [...everywhere, ...serverMax, "server_reserve_outbound_connections", "cluster_max_outbound_connections"],
  group: [...everywhere, ...serverMax],
  binding: [...everywhere, ...serverMax, "cluster_max_outbound_connections"],
  bindingInGroup: [...everywhere, ...serverMax],
  // Within a group cluster_max is out of its look-up's reach there: accepted, with a warning.
  name: [...everywhere, "cluster_max_outbound_connections"],
} satisfies { [place: string]: LimitOption[] };

const literalDomains = [
  "example.com",
  "a.example.com",
  "example.co.uk",
  "orange.fr",
  "wanadoo.fr",
  "__proto__",
  "1.2.3",
];
const domainPatterns = [
  String.raw`/^(wanadoo|orange)\.fr$/`,
  "/example/",
  "/(?:^|[.])example[.](?:com|co[.]uk)$/",
  "/^EX/",
  "/./",
  "/o+[^a]/",
  "/com$/",
  "/proto|constructor/",
];
const literalHosts = [
  "mx1.example.com",
  "mx1.example.com",
  "mx2.example.com",
  "mx.orange.fr",
  "orange.fr",
  "constructor",
];
const hostPatterns = ["/^mx/", "/example/", "/fr$/", "/Mx[12]/"];
// Some more often than others, so that stanzas and targets meet.
const bindings = ["a", "a", "a", "a", "b", "b", "default", "A", "constructor"];
const groups = ["g", "g", "g", "default", "h", "G"];

const limitValues = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 9 }) },
  { weight: 1, arbitrary: fc.constantFrom(-1, 0) },
);

/** Some of the options, each with some value. */
function limitsArbitrary(options: readonly LimitOption[], values: fc.Arbitrary<number>): fc.Arbitrary<Limits> {
  return fc
    .uniqueArray(fc.constantFrom(...options), { maxLength: 4 })
    .chain((chosen) =>
      fc
        .tuple(...chosen.map((option) => fc.tuple(fc.constant(option), values)))
        .map((pairs) => Object.fromEntries(pairs)),
    );
}

function named<T>(names: readonly string[], value: fc.Arbitrary<T>, maxLength: number) {
  // The order matters for patterns, so it is drawn, too. fromEntries makes own properties even of `__proto__`.
  const entries = fc.uniqueArray(fc.tuple(fc.constantFrom(...names), value), { selector: ([name]) => name, maxLength });
  return entries.map((pairs): { [name: string]: T } => Object.fromEntries(pairs));
}

function containerArbitrary(
  options: readonly LimitOption[],
  values: fc.Arbitrary<number>,
  nameOptions: readonly LimitOption[] = validIn.name,
): fc.Arbitrary<ContainerInput> {
  return fc
    .tuple(
      limitsArbitrary(options, values),
      named([...literalDomains, ...domainPatterns], limitsArbitrary(nameOptions, values), 4),
      named([...literalHosts, ...hostPatterns], limitsArbitrary(nameOptions, values), 2),
    )
    .map(([limits, domain, host]) => ({ ...limits, domain, host }));
}

/** Where a binding of the policy stands. */
const places = fc.record({
  form: fc.constantFrom("outside", "inside", "both", "both", "binding_group", "binding_group and inside"),
  group: fc.constantFrom(...groups),
});

export function policyArbitrary(values: fc.Arbitrary<number> = limitValues): fc.Arbitrary<PolicyInput> {
  const oneBinding = fc.record({
    place: places,
    outside: containerArbitrary(validIn.binding, values),
    // `binding_group = "g"` puts the binding into a group: whether cluster_max is valid in it the rules leave open.
    grouped: containerArbitrary(everywhere, values, everywhere),
    inside: containerArbitrary(validIn.bindingInGroup, values),
  });
  return fc
    .record({
      global: containerArbitrary(validIn.global, values),
      groups: named(groups, containerArbitrary(validIn.group, values), 3),
      bindings: named(bindings, oneBinding, 3),
    })
    .map(({ global, groups, bindings }) => {
      const outside: { [name: string]: ContainerInput & { binding_group?: string } } = {};
      const inside: { [group: string]: { [binding: string]: ContainerInput } } = {};
      for (const [name, drawn] of Object.entries(bindings)) {
        const { form, group } = drawn.place;
        if (form === "outside" || form === "both") outside[name] = drawn.outside;
        if (form.startsWith("binding_group")) outside[name] = { ...drawn.grouped, binding_group: group };
        if (form === "inside" || form === "both" || form.endsWith("and inside")) {
          inside[group] = { ...inside[group], [name]: drawn.inside };
        }
      }
      const names = new Set([...Object.keys(groups), ...Object.keys(inside)]);
      const binding_group = Object.fromEntries(
        [...names].map((name) => [name, { ...groups[name], ...(inside[name] && { binding: inside[name] }) }]),
      );
      return { ...global, binding: outside, binding_group };
    });
}

/** A target that falls into some of the stanzas above, spelt with some care for case and a trailing dot. */
export function targetArbitrary(options: { groups?: boolean } = {}): fc.Arbitrary<Target> {
  const spelt = (names: readonly string[]) =>
    fc
      .tuple(fc.constantFrom(...names), fc.constantFrom("", "", "."), fc.boolean())
      .map(([name, dot, upper]) => (upper ? name.toUpperCase() : name) + dot);
  return fc.record(
    {
      binding: fc.constantFrom(...bindings, "never-mentioned"),
      ...(options.groups !== false && { bindingGroup: fc.constantFrom(...groups, "unheard-of") }),
      domain: spelt([...literalDomains, "b.example.com", "other.org", "constructor"]),
      host: spelt([...literalHosts, "mx3.other.org"]),
    },
    { requiredKeys: ["domain"] },
  );
}

/** Ways to write the same policy. */
export interface Style {
  /** Each stanza in two pieces, which are merged again. */
  readonly pieces: boolean;
  readonly upperCase: boolean;
  readonly quotedNumbers: boolean;
  /** `\\.` for `\.` in quotes: the same pattern. */
  readonly doubledBackslashes: boolean;
  readonly comments: boolean;
  readonly lineEnd: string;
}

export const styleArbitrary: fc.Arbitrary<Style> = fc.record({
  pieces: fc.boolean(),
  upperCase: fc.boolean(),
  quotedNumbers: fc.boolean(),
  doubledBackslashes: fc.boolean(),
  comments: fc.boolean(),
  lineEnd: fc.constantFrom("\n", "\r\n", " "),
});

/** Policy text for the data, written in that style. */
export function printed(policy: PolicyInput, style: Style): string {
  const keyword = (word: string) => (style.upperCase ? word.toUpperCase() : word);
  const quoted = (name: string) => `"${style.doubledBackslashes ? name.replaceAll("\\", "\\\\") : name}"`;

  const body = (input: object, piece: 0 | 1 | "all"): string[] => {
    const lines: string[] = [];
    let count = 0;
    for (const [key, value] of Object.entries(input)) {
      if (typeof value === "object") continue;
      if (piece !== "all" && count++ % 2 !== piece) continue;
      const written = typeof value === "string" || style.quotedNumbers ? `"${value}"` : `${value}`;
      lines.push(`${keyword(key)} = ${written}`);
    }
    for (const [word, stanzas] of Object.entries(input)) {
      if (typeof stanzas !== "object") continue;
      for (const [name, inner] of Object.entries(stanzas as object)) {
        lines.push(`${keyword(word)} ${quoted(name)} {`, ...body(inner, piece), "}");
        if (style.comments) lines.push("/* the end of it } */");
      }
    }
    return lines;
  };

  const pieces = style.pieces ? [...body(policy, 0), ...body(policy, 1)] : body(policy, "all");
  return pieces.join(style.lineEnd);
}
