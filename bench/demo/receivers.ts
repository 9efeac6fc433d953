// receivers.ts: the other side. Real SMTP servers on loopback, each with its own idea of how many sessions it takes.
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { SMTPServer } from "smtp-server";
import { shopDomains, smallDomains, sources } from "./traffic.js";

/** What a site says it takes. Written down here as the site would, and by hand: nothing in this file reads the policy. */
export interface Rule {
  readonly label: string;
  readonly from: readonly string[];
  readonly limit: number;
  /** Counted over all of `from` together; otherwise for each source address. */
  readonly together?: true;
}
export interface Site {
  readonly host: string;
  readonly domains: readonly string[];
  readonly rules: readonly Rule[];
}

const bulk = ["bulk-1", "bulk-2"];
const others = ["receipts", "alerts"];
const smallSite: readonly Rule[] = [
  { label: "each small domain, each bulk binding", from: bulk, limit: 5 },
  { label: "each small domain, each other binding", from: others, limit: 2 },
];
const plainSites: readonly Site[] = [
  {
    host: "smtp-in.orange.fr",
    domains: ["wanadoo.fr", "orange.fr"],
    rules: [{ label: "wanadoo.fr + orange.fr, all together", from: [...bulk, ...others], limit: 3, together: true }],
  },
  {
    host: "mx.gmail.com",
    domains: ["gmail.com"],
    rules: [
      { label: "gmail.com from bulk-1", from: ["bulk-1"], limit: 5 },
      { label: "gmail.com from bulk-2", from: ["bulk-2"], limit: 8 },
      { label: "gmail.com, each other binding", from: others, limit: 2 },
    ],
  },
  {
    host: "mx.yahoo.com",
    domains: ["yahoo.com"],
    rules: [
      { label: "yahoo.com, each bulk binding", from: bulk, limit: 5 },
      { label: "yahoo.com, each other binding", from: others, limit: 4 },
    ],
  },
  {
    host: "mx.hosting.example",
    domains: shopDomains,
    rules: [{ label: "host of 8 shops, each binding", from: [...bulk, ...others], limit: 3 }],
  },
  ...smallDomains.map((domain) => ({ host: `mx.${domain}`, domains: [domain], rules: smallSite })),
];
/** What the line out of our house bears, counted over all sites. */
const lineOut: Rule = { label: "everything together", from: [...sources.keys()], limit: 48, together: true };

/** What the servers saw of one rule. */
export interface Tally extends Rule {
  /** A binding, domain and host the rule is about. */
  readonly example: { readonly binding: string; readonly domain: string; readonly host: string };
  connections: number;
  /** Connections answered with 421. */
  refused: number;
  /** Most connections at once in any one count, the refused ones included. */
  peak: number;
}
export interface Receivers {
  /** One a rule; the last is over all sites. */
  readonly tallies: readonly Tally[];
  /** Connections open now, over all sites. */
  readonly open: number;
  /** Where mail for a domain goes: what a real sender asks the DNS. */
  mx(domain: string): MailHost;
  close(): Promise<void>;
}
export interface MailHost {
  readonly host: string;
  readonly address: string;
  readonly port: number;
}

const bindingOf = new Map([...sources].map(([binding, address]) => [address, binding]));

/**
 * Each site listens on an address of its own: the listener tells who is called, the source address who calls.
 *
 * @param inAll counted over all sites
 */
export async function startReceivers(sites: readonly Site[] = plainSites, inAll: Rule = lineOut): Promise<Receivers> {
  const tallies = new Map(sites.flatMap((site) => site.rules.map((rule) => [rule, newTally(rule, site)])));
  const total = newTally(inAll, sites[0]!);
  const openInAll = new Map<string, number>();
  const mailHosts = new Map<string, MailHost>();
  const servers: SMTPServer[] = [];

  for (const [i, site] of sites.entries()) {
    const open = new Map<string, number>();
    const refused = new Set<string>();
    const server = new SMTPServer({
      name: site.host,
      disableReverseLookup: true,
      // After STARTTLS the accepted socket, by which sessions are counted here, would no longer tell when they end.
      disabledCommands: ["AUTH", "STARTTLS"],
      onConnect({ remoteAddress, remotePort }, callback) {
        if (!refused.delete(`${remoteAddress}:${remotePort}`)) return callback();
        callback(Object.assign(new Error("4.7.0 Too many connections, try again later"), { responseCode: 421 }));
      },
      onData(stream, _session, callback) {
        stream.on("end", () => setTimeout(callback, 15)); // a receiver has a look at each message
        stream.resume();
      },
    });
    // Not in onConnect: smtp-server holds back its greeting for 100 ms and calls that only then.
    server.server.on("connection", (socket: Socket) => {
      const binding = bindingOf.get(socket.remoteAddress ?? "");
      if (binding === undefined) return void socket.destroy(); // somebody else on this machine
      const tally = tallies.get(site.rules.find(({ from }) => from.includes(binding))!)!;
      countSession(total, openInAll, binding, socket);
      if (countSession(tally, open, binding, socket) <= tally.limit) return;
      tally.refused++;
      total.refused++;
      refused.add(`${socket.remoteAddress}:${socket.remotePort}`);
    });
    server.on("error", () => {}); // a sender that breaks off is no trouble of ours
    server.listen(0, `127.0.0.${101 + i}`);
    await once(server.server, "listening");
    servers.push(server);
    const { address, port } = server.server.address() as AddressInfo;
    for (const domain of site.domains) mailHosts.set(domain, { host: site.host, address, port });
  }
  return {
    tallies: [...tallies.values(), total],
    get open() {
      return openInAll.get("all") ?? 0;
    },
    mx: (domain) => mailHosts.get(domain)!,
    close: async () => {
      await Promise.all(servers.map((server) => new Promise<void>((closed) => server.close(closed))));
    },
  };
}

function newTally(rule: Rule, { host, domains }: Site): Tally {
  const example = { binding: rule.from[0]!, domain: domains[0]!, host };
  return { ...rule, example, connections: 0, refused: 0, peak: 0 };
}

/**
 * Counts a session in and, when it ends, out; returns how many are open with it. It ends for the receiver when the
 * receiver has sent its FIN. A sender can learn of the end only from that FIN, so if it opens the next connection
 * after it has seen the last one close, no receiver ever counts both.
 */
function countSession(tally: Tally, open: Map<string, number>, binding: string, socket: Socket): number {
  const who = tally.together ? "all" : binding;
  const now = (open.get(who) ?? 0) + 1;
  open.set(who, now);
  tally.connections++;
  tally.peak = Math.max(tally.peak, now);
  const end = () => {
    socket.off("finish", end).off("close", end);
    open.set(who, open.get(who)! - 1);
  };
  socket.on("finish", end).on("close", end); // "close" alone when it broke
  return now;
}
