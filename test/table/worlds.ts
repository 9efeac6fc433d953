// Policies with their answers worked out by hand: three families, each with limits to draw.
import fc from "fast-check";
import type { LimitOption, Target } from "../../src/index.js";
import type { Claim, Rules } from "../model/table-model.js";

export interface World extends Rules {
  readonly text: string;
  /** Where connections want to go. */
  readonly targets: readonly Target[];
}

type Setting = Pick<Claim, "option" | "line" | "limit">;

/** Policy text written line by line, so that each setting knows its own. */
class PolicyText {
  readonly #lines: string[] = [];

  set(option: LimitOption, limit: number): Setting {
    return { option, limit, line: this.#lines.push(`${option} = ${String(limit)}`) };
  }

  line(text: string): void {
    this.#lines.push(text);
  }

  toString(): string {
    return `${this.#lines.join("\n")}\n`;
  }
}

const builtIn = (option: LimitOption, limit: number): Setting => ({ option, limit, line: undefined });

/** No claim at all if the setting says unlimited. */
function claim(setting: Setting, counter: string): readonly Claim[] {
  return setting.limit < 0 ? [] : [{ ...setting, counter, lifted: false }];
}

/** A server-wide ceiling, which the reserve lifts. */
function ceiling(setting: Setting, counter: string): readonly Claim[] {
  return claim(setting, counter).map((plain) => ({ ...plain, lifted: true }));
}

const inGroupG = (binding: string): boolean => binding === "c" || binding === "d";

const limit: fc.Arbitrary<number> = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: 1, max: 3 }) },
  { weight: 1, arbitrary: fc.constant(0) },
);
const reserve: fc.Arbitrary<number> = fc.constantFrom(0, 0, 1, 1, 2, 3);

function targets(
  bindings: readonly (string | undefined)[],
  hosts: readonly (string | undefined)[],
): fc.Arbitrary<readonly Target[]> {
  const all = bindings.flatMap((binding) =>
    ["gmail.com", "orange.fr", "wanadoo.fr", "small.example"].flatMap((domain) =>
      hosts.map((host): Target => ({ ...(binding && { binding }), domain, ...(host && { host }) })),
    ),
  );
  return fc.shuffledSubarray(all, { minLength: 2, maxLength: 8 });
}

/**
 * Limits that cross: per binding, per domain over all bindings, one pattern over two domains, per group, per host, and
 * a small server-wide ceiling, with or without a reserve.
 */
const crossed: fc.Arbitrary<World> = fc
  .record({
    limits: fc.record({
      server: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.constant(-1)),
      reserve,
      everyPair: limit,
      bindingA: limit,
      hostOfA: limit,
      pairBGmail: limit,
      gmail: limit,
      french: limit,
      eachFrench: limit,
      eachOrange: limit,
      group: limit,
      eachOfGroup: limit,
      host: limit,
    }),
    targets: targets([undefined, "a", "b", "c", "d"], [undefined, undefined, "mx1.example", "mx2.example"]),
  })
  .map(({ limits, targets }) => {
    const text = new PolicyText();
    const server = text.set("server_max_outbound_connections", limits.server);
    text.set("server_reserve_outbound_connections", limits.reserve);
    const everyPair = text.set("max_outbound_connections", limits.everyPair);
    text.line('binding "a" {');
    const bindingA = text.set("server_max_outbound_connections", limits.bindingA);
    text.line('host "mx1.example" {');
    const hostOfA = text.set("max_outbound_connections", limits.hostOfA);
    text.line("} }");
    text.line('binding "b" { domain "gmail.com" {');
    const pairBGmail = text.set("max_outbound_connections", limits.pairBGmail);
    text.line("} }");
    text.line('domain "gmail.com" {');
    const gmail = text.set("scope_max_outbound_connections", limits.gmail);
    text.line("}");
    text.line(String.raw`domain "/^(wanadoo|orange)\.fr$/" {`);
    const french = text.set("scope_max_outbound_connections", limits.french);
    const eachFrench = text.set("max_outbound_connections", limits.eachFrench);
    text.line("}");
    text.line('domain "orange.fr" {');
    const eachOrange = text.set("max_outbound_connections", limits.eachOrange);
    text.line("}");
    text.line('binding_group "g" {');
    const group = text.set("scope_max_outbound_connections", limits.group);
    const eachOfGroup = text.set("server_max_outbound_connections", limits.eachOfGroup);
    text.line('binding "c" { } binding "d" { } }');
    text.line('host "mx2.example" {');
    const host = text.set("scope_max_outbound_connections", limits.host);
    text.line("}");
    return {
      text: text.toString(),
      reserve: limits.reserve,
      targets,
      claims({ binding = "default", domain, host: mx }) {
        const isFrench = domain === "orange.fr" || domain === "wanadoo.fr";
        const ofPair =
          binding === "b" && domain === "gmail.com"
            ? pairBGmail
            : domain === "orange.fr"
              ? eachOrange
              : domain === "wanadoo.fr"
                ? eachFrench
                : everyPair;
        return [
          ceiling(server, "server"),
          claim(ofPair, `pair ${binding} ${domain}`),
          binding === "a" ? claim(bindingA, "binding a") : [],
          binding === "a" && mx === "mx1.example" ? claim(hostOfA, "a to mx1") : [],
          domain === "gmail.com" ? claim(gmail, "to gmail.com") : [],
          isFrench ? claim(french, "to orange.fr and wanadoo.fr") : [],
          inGroupG(binding) ? claim(group, "group g") : [],
          inGroupG(binding) ? claim(eachOfGroup, `binding ${binding}`) : [],
          mx === "mx2.example" ? claim(host, "to mx2") : [],
        ].flat();
      },
    };
  });

/** The server-wide ceiling as `scope_max`, alone or beside `server_max`; `scope_max` in a binding and in its domain. */
const ceilings: fc.Arbitrary<World> = fc
  .record({
    limits: fc.record({
      scope: fc.integer({ min: 1, max: 5 }),
      server: fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }),
      reserve: fc.option(reserve, { nil: undefined }),
      everyPair: limit,
      bindingA: limit,
      pairAGmail: limit,
      eachOfGroup: limit,
      groupGmail: limit,
      pairCGmail: limit,
      eachGmail: limit,
      gmail: limit,
    }),
    targets: targets([undefined, "a", "c", "d"], [undefined]),
  })
  .map(({ limits, targets }) => {
    const text = new PolicyText();
    const scope = text.set("scope_max_outbound_connections", limits.scope);
    const server = limits.server === undefined ? undefined : text.set("server_max_outbound_connections", limits.server);
    if (limits.reserve !== undefined) text.set("server_reserve_outbound_connections", limits.reserve);
    const everyPair = text.set("max_outbound_connections", limits.everyPair);
    text.line('binding "a" {');
    const bindingA = text.set("scope_max_outbound_connections", limits.bindingA);
    text.line('domain "gmail.com" {');
    const pairAGmail = text.set("scope_max_outbound_connections", limits.pairAGmail);
    text.line("} }");
    text.line('binding_group "g" {');
    const eachOfGroup = text.set("max_outbound_connections", limits.eachOfGroup);
    text.line('domain "gmail.com" {');
    const groupGmail = text.set("scope_max_outbound_connections", limits.groupGmail);
    text.line("}");
    text.line('binding "c" { domain "gmail.com" {');
    const pairCGmail = text.set("max_outbound_connections", limits.pairCGmail);
    text.line("} }");
    text.line('binding "d" { } }');
    text.line('domain "gmail.com" {');
    const eachGmail = text.set("max_outbound_connections", limits.eachGmail);
    const gmail = text.set("scope_max_outbound_connections", limits.gmail);
    text.line("}");
    return {
      text: text.toString(),
      reserve: limits.reserve ?? 200,
      targets,
      claims({ binding = "default", domain }) {
        const toGmail = domain === "gmail.com";
        const ofPair = inGroupG(binding)
          ? binding === "c" && toGmail
            ? pairCGmail
            : eachOfGroup
          : toGmail
            ? eachGmail
            : everyPair;
        return [
          ceiling(scope, "all"),
          // Without a server_max of its own, the global scope_max stands in for the built-in one.
          server === undefined ? [] : ceiling(server, "server"),
          // In binding › domain, scope_max stands in for the max that would be inherited.
          binding === "a" && toGmail
            ? claim(pairAGmail, "scope a to gmail.com")
            : claim(ofPair, `pair ${binding} ${domain}`),
          binding === "a" ? claim(bindingA, "binding a") : [],
          inGroupG(binding) && toGmail ? claim(groupGmail, "group g to gmail.com") : [],
          toGmail ? claim(gmail, "to gmail.com") : [],
        ].flat();
      },
    };
  });

/** The cluster's limits, which hold for one process alone and which the reserve does not lift. */
const cluster: fc.Arbitrary<World> = fc
  .record({
    limits: fc.record({
      server: fc.integer({ min: 1, max: 4 }),
      reserve,
      clusterServer: fc.integer({ min: 1, max: 5 }),
      everyPair: limit,
      clusterOfA: limit,
      pairOfB: limit,
      host: limit,
      eachGmail: limit,
      gmail: limit,
    }),
    targets: targets([undefined, "a", "b"], [undefined, "mx1.example"]),
  })
  .map(({ limits, targets }) => {
    const text = new PolicyText();
    const server = text.set("server_max_outbound_connections", limits.server);
    text.set("server_reserve_outbound_connections", limits.reserve);
    const clusterServer = text.set("cluster_server_max_outbound_connections", limits.clusterServer);
    const everyPair = text.set("cluster_max_outbound_connections", limits.everyPair);
    text.line('binding "a" {');
    const clusterOfA = text.set("cluster_server_max_outbound_connections", limits.clusterOfA);
    text.line("}");
    text.line('binding "b" {');
    const pairOfB = text.set("cluster_max_outbound_connections", limits.pairOfB);
    text.line("}");
    text.line('host "mx1.example" {');
    const host = text.set("cluster_max_outbound_connections", limits.host);
    text.line("}");
    text.line('domain "gmail.com" {');
    const eachGmail = text.set("cluster_max_outbound_connections", limits.eachGmail);
    const gmail = text.set("cluster_scope_max_outbound_connections", limits.gmail);
    text.line("}");
    const pair = builtIn("max_outbound_connections", 32);
    return {
      text: text.toString(),
      reserve: limits.reserve,
      targets,
      claims({ binding = "default", domain, host: mx }) {
        const ofPair = binding === "b" ? pairOfB : domain === "gmail.com" ? eachGmail : everyPair;
        return [
          ceiling(server, "server"),
          claim(clusterServer, "cluster"),
          claim(pair, `pair ${binding} ${domain}`),
          mx === "mx1.example"
            ? claim(host, `cluster ${binding} to mx1`)
            : claim(ofPair, `cluster pair ${binding} ${domain}`),
          binding === "a" ? claim(clusterOfA, "cluster binding a") : [],
          domain === "gmail.com" ? claim(gmail, "cluster to gmail.com") : [],
        ].flat();
      },
    };
  });

/**
 * Two bindings and two domains, each with a limit of its own, and traffic that needs only one of them: whoever needs a
 * binding and a domain is passed over again and again. Sometimes under a ceiling with a reserve.
 */
export const contended: fc.Arbitrary<World> = fc
  .record({
    limits: fc.record({
      server: fc.constantFrom(-1, -1, 3, 4),
      reserve: fc.constantFrom(0, 1, 2),
      bindings: fc.tuple(fc.constantFrom(1, 1, 2), fc.constantFrom(1, 2)),
      domains: fc.tuple(fc.constantFrom(1, 1, 2), fc.constantFrom(1, 2)),
    }),
    targets: fc.shuffledSubarray(
      [
        { binding: "a", domain: "gmail.com" },
        { binding: "a", domain: "orange.fr" },
        { binding: "b", domain: "gmail.com" },
        { binding: "b", domain: "orange.fr" },
      ],
      { minLength: 1, maxLength: 3 },
    ),
  })
  .map(({ limits, targets }) => {
    const text = new PolicyText();
    const server = text.set("server_max_outbound_connections", limits.server);
    text.set("server_reserve_outbound_connections", limits.reserve);
    const flood: readonly Target[] = [
      { binding: "a", domain: "small.example" },
      { binding: "b", domain: "small.example" },
      { domain: "gmail.com" },
      { domain: "orange.fr" },
    ];
    const ofBinding = new Map<string | undefined, Setting>();
    for (const [at, name] of ["a", "b"].entries()) {
      text.line(`binding "${name}" {`);
      ofBinding.set(name, text.set("server_max_outbound_connections", limits.bindings[at] ?? 1));
      text.line("}");
    }
    const ofDomain = new Map<string, Setting>();
    for (const [at, name] of ["gmail.com", "orange.fr"].entries()) {
      text.line(`domain "${name}" {`);
      ofDomain.set(name, text.set("scope_max_outbound_connections", limits.domains[at] ?? 1));
      text.line("}");
    }
    return {
      text: text.toString(),
      reserve: limits.reserve,
      targets: [...targets, ...Array.from({ length: 6 }, () => flood).flat()],
      claims({ binding = "default", domain }) {
        const byBinding = ofBinding.get(binding);
        const byDomain = ofDomain.get(domain);
        return [
          ceiling(server, "server"),
          claim(builtIn("max_outbound_connections", 32), `pair ${binding} ${domain}`),
          byBinding === undefined ? [] : claim(byBinding, `binding ${binding}`),
          byDomain === undefined ? [] : claim(byDomain, `to ${domain}`),
        ].flat();
      },
    };
  });

export const world: fc.Arbitrary<World> = fc.oneof(crossed, ceilings, cluster);

/** Several policies over the same targets, to change between. */
export const changing: fc.Arbitrary<readonly [World, ...World[]]> = fc
  .oneof(
    fc.tuple(crossed, crossed, crossed),
    fc.tuple(ceilings, ceilings, ceilings),
    fc.tuple(crossed, ceilings, cluster),
  )
  .map(([first, second, third]) => [
    first,
    { ...second, targets: first.targets },
    { ...third, targets: first.targets },
  ]);
