// Postfix as the judge of real senders: it counts the connections from each address itself, and refuses what is too many.

import { setMaxListeners } from "node:events";
import { createTransport, type Transporter } from "nodemailer";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { limited, send, unlimited } from "../../bench/demo/sender.js";
import { countMessages, makeTraffic, sources } from "../../bench/demo/traffic.js";
import { createLimiter, type Limiter, parsePolicy } from "../../src/index.js";
import { limitedSocket } from "../../src/nodemailer.js";
import { describePostfix, type Postfix, startPostfix } from "./server.js";

/** What each host takes from one address. */
const LIMIT = 3;
const HOSTS = ["mx-1.example", "mx-2.example", "mx-3.example", "mx-4.example"];
const SECURE = HOSTS.slice(2);
/** From each of our addresses to two domains at each host. */
const ROUTES = HOSTS.flatMap((host) =>
  [`one.${host}`, `two.${host}`].flatMap((domain) => [...sources.keys()].map((binding) => ({ binding, domain, host }))),
);
type Route = (typeof ROUTES)[number];

const limiterOf = (connections: number): Limiter =>
  createLimiter(parsePolicy(`host "/^mx-.*\\.example$/" { max_outbound_connections = ${connections} }`));

async function start(starttls: readonly string[]): Promise<Postfix> {
  const postfix = await startPostfix({ hosts: HOSTS, limit: LIMIT, starttls });
  onTestFinished(() => postfix[Symbol.asyncDispose]());
  return postfix;
}

/** Sends mail, with the limiter or without, and says how many messages were taken. */
type Send = (ports: Postfix["ports"], limiter?: Limiter) => Promise<number>;
interface Sender {
  readonly messages: number;
  readonly send: Send;
}

/** Through several transports a route. */
function byNodemailer(transports: number, perTransport: number, options: object): Sender {
  const send: Send = async (ports, limiter) => {
    const work = ROUTES.flatMap((route) => Array<Route>(transports).fill(route)).map(async (route) => {
      const getSocket = limiter && limitedSocket(limiter, () => route);
      const transport = transportFor(route, ports, { ...options, ...(getSocket && { getSocket }) });
      const sent = await Promise.allSettled(
        Array.from({ length: perTransport }, () => transport.sendMail(mailTo(route))),
      );
      transport.close();
      return sent.filter(({ status }) => status === "fulfilled").length;
    });
    return (await Promise.all(work)).reduce((sum, taken) => sum + taken, 0);
  };
  return { messages: ROUTES.length * transports * perTransport, send };
}

function transportFor({ host, binding }: Route, ports: Postfix["ports"], options: object): Transporter {
  const { port, localAddress } = { port: ports.get(host)!, localAddress: sources.get(binding)! };
  return createTransport({ host: "127.0.0.1", port, localAddress, tls: { rejectUnauthorized: false }, ...options });
}

const mailTo = ({ domain }: Route) => ({ from: "news@sender.example", to: `someone@${domain}`, text: "Hello" });

const plain = (perRoute: number): Sender => byNodemailer(1, perRoute, {});
/** Each with far more connections than Postfix takes, and four for the same address and host. */
const pooled = (perPool: number): Sender => byNodemailer(2, perPool, { pool: true, maxConnections: 20 });

function byDemo(scale: number): Sender {
  const batches = makeTraffic(scale);
  const domains = [...new Set(batches.map(({ domain }) => domain))];
  const hosts = new Map(domains.map((domain, index) => [domain, HOSTS[index % HOSTS.length]!]));
  return {
    messages: countMessages(batches),
    send: async (ports, limiter) => {
      const mx = (domain: string) => {
        const host = hosts.get(domain)!;
        return { host, address: "127.0.0.1", port: ports.get(host)! };
      };
      const { signal } = new AbortController();
      setMaxListeners(0, signal);
      const progress = { delivered: 0, deferred: 0, open: 0, waiting: 0 };
      const gate = limiter ? limited(limiter, signal) : unlimited(5);
      await send(batches, { mx, tallies: [], open: 0, close: async () => {} }, gate, progress, signal);
      return progress.delivered;
    },
  };
}

describePostfix("Postfix, which takes 3 connections from an address", { timeout: 180_000 }, () => {
  // Fewer without: of those all come at once, and more than that Postfix does not even refuse.
  describe.each([
    ["nodemailer", plain(40), plain(12), SECURE],
    ["nodemailer's pools", pooled(30), pooled(6), SECURE],
    // It trusts no certificate but a real one.
    ["the demo's sender", byDemo(0.4), byDemo(0.4), []],
  ])("%s", (_, withLimiter, without, starttls) => {
    it("is never refused with the limiter", async () => {
      const [postfix, limiter] = [await start(starttls), limiterOf(LIMIT)];
      const taken = await withLimiter.send(postfix.ports, limiter);
      const log = await postfix.settled(taken);
      expect(log).toMatchObject({ refusals: 0, delivered: withLimiter.messages });
      expect(log.secured > 0).toBe(starttls.length > 0);
      await vi.waitFor(() => expect([...limiter.leases()]).toEqual([]));
    });

    it("is refused without it", async () => {
      const postfix = await start(starttls);
      const log = await postfix.settled(await without.send(postfix.ports));
      expect(log.refusals).toBeGreaterThan(log.connections / 10);
    });
  });

  it("sees one connection too many", async () => {
    const [postfix, limiter] = [await start([]), limiterOf(LIMIT + 1)];
    const log = await postfix.settled(await plain(12).send(postfix.ports, limiter));
    expect(log.refusals).toBeGreaterThan(0);
  });

  it("sees slots that are given back after a message while the connection stays", async () => {
    const [postfix, limiter] = [await start([]), limiterOf(LIMIT)];
    const [first, second] = ROUTES.filter(({ binding, host }) => binding === "alerts" && host === HOSTS[0]);
    const send = async (route: Route): Promise<void> => {
      const pool = transportFor(route, postfix.ports, { pool: true });
      onTestFinished(() => pool.close());
      const run = () => limiter.run(route, () => pool.sendMail(mailTo(route)));
      await Promise.all(Array.from({ length: LIMIT }, run));
    };
    await send(first!);
    await expect(send(second!)).rejects.toMatchObject({ responseCode: 421 });
  });
});
