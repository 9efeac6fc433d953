// The four limits of a cluster that every variant enforces, over which targets, and where those come from.

import type { PolicyInput } from "../../src/index.js";
import { seeded } from "../workloads.js";

/** What a limit counts, from the most specific on. */
export type Kind = "pair" | "domain" | "binding" | "server";
/** How many connections each admits: of a binding to a domain, to a domain, of a binding, and of all. */
export type Caps = Readonly<Record<Kind, number>>;

export interface To {
  readonly binding: string;
  readonly domain: string;
}

/** Room for everybody. */
export const ROOMY: Caps = { pair: 100_000, domain: 100_000, binding: 100_000, server: 100_000 };

/** One limit with so many slots, and no other that holds up anybody. */
export const only = (slots: number): Caps => ({ ...ROOMY, domain: slots });

/** The four limits of a target, by their keys. */
export function limitsOf<T>({ binding, domain }: To, caps: Caps, limit: (key: string, cap: number) => T): T[] {
  return [
    limit(`pair ${binding} ${domain}`, caps.pair),
    limit(`domain ${domain}`, caps.domain),
    limit(`binding ${binding}`, caps.binding),
    limit("server", caps.server),
  ];
}

const BINDINGS = ["mta-0", "mta-1"] as const;
const domainName = (at: number): string => `domain-${at}.example`;

/** Where the targets come from. */
export type Stream =
  /** One, again and again. */
  | "one"
  /** To a domain not seen before, each time. The limit of domains is one for all of these. */
  | "new"
  /** To one of so many domains from one of two bindings, each as likely. */
  | number;

/** The targets of one process, in its own order. */
export function targetsOf(stream: Stream, process: number): () => To {
  const random = seeded(process + 1);
  let made = 0;
  return () => {
    if (stream === "one") return { binding: BINDINGS[0], domain: domainName(0) };
    if (stream === "new") return { binding: BINDINGS[0], domain: `new-${process}-${made++}.example` };
    const pick = Math.floor(random() * stream * BINDINGS.length);
    return {
      binding: String(BINDINGS[pick % BINDINGS.length]),
      domain: domainName(Math.floor(pick / BINDINGS.length)),
    };
  };
}

/** The same four limits as a policy: of a cluster, and none of a process. */
export function policyOf(stream: Stream, caps: Caps): PolicyInput {
  const scope = { cluster_scope_max_outbound_connections: caps.domain };
  const count = stream === "one" ? 1 : stream === "new" ? 0 : stream;
  const domains = Array.from({ length: count }, (_, at) => [domainName(at), scope] as const);
  return {
    server_max_outbound_connections: -1,
    max_outbound_connections: -1,
    server_reserve_outbound_connections: 0,
    cluster_server_max_outbound_connections: caps.server,
    cluster_max_outbound_connections: caps.pair,
    domain: Object.fromEntries(stream === "new" ? [["/^new-/", scope]] : domains),
    binding: Object.fromEntries(
      BINDINGS.map((name) => [name, { cluster_server_max_outbound_connections: caps.binding }]),
    ),
  };
}
