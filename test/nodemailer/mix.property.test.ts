// Whatever several transports do at once, and whatever the receiver does: no message is sent twice or lost, the limit holds,
// and every slot comes back.

import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { createLimiter, parsePolicy } from "../../src/index.js";
import { limitedSocket } from "../../src/nodemailer.js";
import { startReceiver } from "../smtp/receiver.js";
import { NEWEST, transportOf } from "./shared.js";
import { countSockets } from "./sockets.js";

const LIMIT = 2;
const runs = Math.max(1, Math.round((6 * Number(process.env["FUZZ_RUNS"] ?? 1000)) / 1000));
const TRANSPORTS = [
  {},
  { pool: true, maxConnections: 8, maxMessages: 7 },
  { pool: true, maxConnections: 3, rateLimit: 5, rateDelta: 50 },
  { pool: true, maxConnections: 20, maxMessages: 1 },
];

/** What is asked of which transport, and how long after the step before, in milliseconds. */
const step = fc.record({
  ask: fc.oneof(
    { weight: 10, arbitrary: fc.constant("send" as const) },
    { weight: 3, arbitrary: fc.constant("abort" as const) },
    { weight: 1, arbitrary: fc.constant("verify" as const) },
    { weight: 1, arbitrary: fc.constant("update" as const) },
  ),
  of: fc.nat(TRANSPORTS.length - 1),
  after: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(15)),
});
const scenario = fc.record({
  steps: fc.array(step, { minLength: 40, maxLength: 120 }),
  starttls: fc.boolean(),
  timeout: fc.constantFrom(0, 100, 20_000),
  fault: fc.option(
    fc.record({
      phase: fc.constantFrom("greeting" as const, "ehlo" as const, "mail" as const, "dot" as const),
      fault: fc.constantFrom("drop" as const, "reset" as const, "421 4.3.2 Not now" as const),
      times: fc.nat(8),
    }),
    { nil: undefined },
  ),
});

describe.each(["nodemailer6", "nodemailer9", NEWEST] as const)("%s", (version) => {
  it("sends no message twice, loses none, keeps to the limit, gives every slot back", {
    timeout: 600_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async ({ steps, starttls, timeout, fault }) => {
        using sockets = countSockets();
        const limiter = createLimiter(parsePolicy(`max_outbound_connections = ${LIMIT}`));
        await using server = await startReceiver("127.0.0.1", { look: 2, starttls, ...(fault && { fault }) });
        const getSocket = limitedSocket(limiter, () => ({ domain: "example.com" }), { timeout });
        const common = { port: server.port, getSocket, tls: { rejectUnauthorized: false }, maxRequeues: 2 };
        const transports = TRANSPORTS.map((options) => transportOf(version, { ...common, ...options }));

        const delivered: string[] = [];
        const asked: Promise<unknown>[] = [];
        for (const [at, { ask, of, after }] of steps.entries()) {
          const transport = transports[of]!;
          const to = `to-${at}@example.com`;
          const abort = new AbortController();
          const mail = { from: "us@sender.example", to, text: "Hello" };
          if (ask === "update") limiter.update(parsePolicy(`max_outbound_connections = ${1 + (at % LIMIT)}`));
          else if (ask === "verify") asked.push(transport.verify().catch(() => {}));
          else {
            const sent = transport.sendMail({ ...mail, signal: abort.signal }).then(() => delivered.push(to));
            asked.push(sent.catch(() => {}));
          }
          if (ask === "abort") setTimeout(() => abort.abort(), (at * 7) % 60);
          if (after > 0) await sleep(after);
        }
        await Promise.all(asked);
        for (const transport of transports) transport.close();

        const took = [...server.took];
        expect(took.length).toBe(new Set(took).size);
        expect(delivered.filter((to) => !took.includes(to))).toEqual([]);
        expect(sockets.peak(server.port)).toBeLessThanOrEqual(LIMIT);
        await vi.waitFor(
          () => {
            expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0 });
            expect(sockets.open()).toBe(0);
          },
          { timeout: 15_000 },
        );
      }),
      { numRuns: runs, endOnFailure: true },
    );
  });
});
