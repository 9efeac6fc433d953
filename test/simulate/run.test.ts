// simulate: against cases worked out by hand, and against the laws.

import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { exponential } from "../../src/simulate/traffic.js";
import { play, report } from "./playing.js";

describe("simulate", () => {
  it("two slots, three requests of 10 s: they wait 0, 0 and 10 s", async () => {
    const { limits, domains, starved, ...all } = await report(
      "max_outbound_connections = 2\nserver_max_outbound_connections = -1",
      "a.example count=3 duration=10s",
    );
    const waits = { delayed: 1, waited: 10_000, median: 0, p90: 10_000, p99: 10_000, longest: 10_000 };
    const total = { asked: 3, admitted: 3, timedOut: 0, refused: 0, stillWaiting: 0, ...waits };
    expect(all).toMatchObject({ span: 20_000, admittedPerSecond: 0.15, ...total });
    expect(domains).toEqual([{ target: { domain: "a.example" }, ...total }]);
    // Two are open for 10 s, one for 10 s more.
    expect(limits).toEqual([
      expect.objectContaining({ limit: 2, peak: 2, mean: 1.5, full: 0.5, heldUp: 1, waited: 10_000 }),
    ]);
    expect(starved).toEqual([]);
  });

  it("says of each limit what it held up, and for how long", async () => {
    // From 0 to 4 s the domain holds up one request, and from 1 s the binding another one.
    const { limits } = await report(
      `server_max_outbound_connections = -1
       domain "d.example" { scope_max_outbound_connections = 1 }
       binding "b" { server_max_outbound_connections = 1 }`,
      `d.example binding=a count=2 duration=4s
       e.example binding=b duration=3s
       f.example binding=b start=1s duration=1s`,
    );
    const found = limits
      .slice(0, 2)
      .map(({ counts, limit, heldUp, waited, full }) => [counts, limit, heldUp, waited, full]);
    expect(found).toEqual([
      ["connections to d.example", 1, 1, 4_000, 1],
      ["connections from binding b", 1, 1, 2_000, 0.5],
    ]);
    // The other limits had room for those requests.
    expect(limits.slice(2).map(({ heldUp, waited }) => heldUp + waited)).toEqual([0, 0, 0]);
  });

  it("timeout: a request gives up and counts with the time it waited", async () => {
    const { domains, ...all } = await report("max_outbound_connections = 1", "a.example count=3 duration=10s", {
      timeout: 15_000,
    });
    expect(all).toMatchObject({ asked: 3, admitted: 2, timedOut: 1, stillWaiting: 0, longest: 15_000, waited: 25_000 });
    expect(domains[0]).toMatchObject({ target: { domain: "a.example" }, timedOut: 1 });
  });

  it("maxWaiting: one more is refused, and waited for nothing", async () => {
    const all = await report("max_outbound_connections = 1", "a.example count=3 duration=10s", { maxWaiting: 1 });
    expect(all).toMatchObject({ asked: 3, admitted: 2, refused: 1, waited: 10_000 });
  });

  it("end: whoever waits by then counts with the time it waited, and was never admitted", async () => {
    const traffic = "a.example duration=1h\na.example binding=b start=10s duration=1s";
    const scope = 'domain "a.example" { scope_max_outbound_connections = 1 }';
    const { span, starved, ...all } = await report(scope, traffic, { end: 60_000 });
    expect(span).toBe(60_000);
    expect(all).toMatchObject({ asked: 2, admitted: 1, stillWaiting: 1, longest: 50_000 });
    expect(starved).toEqual([
      expect.objectContaining({
        target: expect.objectContaining({ domain: "a.example", binding: "b" }),
        longest: 50_000,
      }),
    ]);
  });

  it("ends when nothing is left to happen, though a closed door keeps somebody waiting", async () => {
    const closed = 'domain "a.example" { max_outbound_connections = 0 }';
    const { span, ...all } = await report(closed, "a.example duration=1s\nb.example start=5s duration=1s");
    expect(span).toBe(6_000);
    expect(all).toMatchObject({ asked: 2, admitted: 1, stillWaiting: 1 });
  });

  it("a flood does not starve a small domain: it waits for one slot of the flood", async () => {
    const { domains } = await report(
      "max_outbound_connections = -1\nserver_max_outbound_connections = 10\nserver_reserve_outbound_connections = 0",
      "flood.example count=5000 duration=1s\nsmall.example start=30.5s duration=1s",
    );
    // Ten a second, so the last of the 5001 goes after 500 s.
    expect(domains.map(({ target, longest }) => [target.domain, longest])).toEqual([
      ["flood.example", 500_000],
      ["small.example", 500],
    ]);
  });

  it("a hand-over that is cut goes on at the same moment", async () => {
    // 99 queues stand in line for the binding, with the one that could go behind them: more than one call moves on.
    const queues = Array.from({ length: 99 }, (_, index) => `d${index}.example`);
    const policy = `server_max_outbound_connections = -1
      binding "b" { server_max_outbound_connections = 1 }
      ${queues.map((domain) => `domain "${domain}" { scope_max_outbound_connections = 1 }`).join("\n")}`;
    const traffic = [
      "first.example binding=b duration=10s",
      ...queues.map((domain) => `${domain} binding=b start=1s duration=1s`),
      "last.example binding=b start=1s duration=1s",
      ...queues.map((domain) => `${domain} binding=other start=2s duration=1h`),
    ];
    const { accounts } = await play(policy, traffic.join("\n"));
    const last = accounts.find(({ target }) => target.domain === "last.example");
    expect(last?.waits.longest).toBe(9_000);
  });

  it("is the same run for the same seed, and another for another", async () => {
    const traffic = "a.example rate=5/s duration=~1s\nb.example rate=1/s duration=~3s end=1m";
    const [one, same, other] = await Promise.all(
      [1, 1, 2].map((seed) => report("max_outbound_connections = 4", traffic, { seed, end: 600_000 })),
    );
    expect(same).toEqual(one);
    expect(other?.waited).not.toBe(one?.waited);
  });

  it("asks for the same connections whatever the policy", async () => {
    const traffic = "a.example rate=5/s duration=~1s end=10m\nb.example count=50 duration=~3s";
    const runs = await Promise.all(["", "max_outbound_connections = 4"].map((policy) => play(policy, traffic)));
    const asked = runs.map(({ accounts, tallies }) => ({
      asked: accounts.map((account) => account.asked),
      // Everybody is admitted in the end, so this is the sum of the durations.
      used: Math.round(tallies.find(({ key }) => key.startsWith("server_max"))?.used ?? 0),
    }));
    expect(asked[1]).toEqual(asked[0]);
  });

  it("a rate is that rate in the mean, and a duration about that long", async () => {
    const { accounts, tallies } = await play("max_outbound_connections = -1", "a.example rate=10/s duration=~2s", {
      end: 3_600_000,
    });
    expect(accounts[0]?.asked).toBeGreaterThan(35_000);
    expect(accounts[0]?.asked).toBeLessThan(37_000);
    const [server] = tallies;
    expect((server?.used ?? 0) / 3_600_000).toBeCloseTo(20, -0.5);
  });

  it("asks the clock of the system nothing", async () => {
    // The test runner may ask meanwhile: only what comes from the sources counts.
    const asked: string[] = [];
    const note = () => {
      if (/[\\/]src[\\/]/.test(new Error("asked").stack ?? "")) asked.push("asked");
      return 0;
    };
    const clocks = [vi.spyOn(performance, "now"), vi.spyOn(Date, "now")];
    for (const clock of clocks) clock.mockImplementation(note);
    await play("max_outbound_connections = 2", "a.example rate=9/s duration=~1s", { end: 300_000, timeout: 5_000 });
    for (const clock of clocks) clock.mockRestore();
    expect(asked).toEqual([]);
  });

  it("keeps the use of a limit over time, where it is asked to", async () => {
    const policy = "max_outbound_connections = 2\nserver_max_outbound_connections = -1";
    const traffic = "a.example count=3 duration=10s";
    const [plain] = (await play(policy, traffic)).tallies;
    expect(plain?.curve).toBeUndefined();
    const [tally] = (await play(policy, traffic, { end: 20_000, curves: new Set([plain?.key ?? ""]) })).tallies;
    const { mean = [], peak = [] } = tally?.curve ?? {};
    expect(mean.map((value) => Math.round(value * 100) / 100)).toEqual([...Array(60).fill(2), ...Array(60).fill(1)]);
    expect(new Set(peak)).toEqual(new Set([2, 1]));
  });
});

const policies = fc.record({
  max: fc.integer({ min: 1, max: 3 }),
  server: fc.integer({ min: 1, max: 6 }),
  reserve: fc.integer({ min: 0, max: 2 }),
  scope: fc.integer({ min: 1, max: 3 }),
  binding: fc.integer({ min: 1, max: 4 }),
});
const flows = fc.array(
  fc.record({
    domain: fc.constantFrom("orange.fr", "wanadoo.fr", "gmail.com", "small.example"),
    binding: fc.constantFrom("a", "b", "c"),
    what: fc.constantFrom("rate=1/s end=60s", "rate=0.1/s end=90s", "count=5", "start=20s count=12"),
    duration: fc.constantFrom("~1s", "~5s", "2s", "0s"),
  }),
  { minLength: 1, maxLength: 12 },
);

describe("a run to the end", () => {
  it("admits everybody, goes over no limit, and every limit comes back to nothing", async () => {
    await fc.assert(
      fc.asyncProperty(policies, flows, fc.nat(), async (limits, lines, seed) => {
        const policy = `max_outbound_connections = ${limits.max}
          server_max_outbound_connections = ${limits.server}
          server_reserve_outbound_connections = ${limits.reserve}
          domain "/^(wanadoo|orange)\\.fr$/" { scope_max_outbound_connections = ${limits.scope} }
          binding "b" { server_max_outbound_connections = ${limits.binding} }`;
        const traffic = lines.map(({ domain, binding, what, duration }) =>
          [domain, `binding=${binding}`, what, `duration=${duration}`].join(" "),
        );
        const { accounts, tallies } = await play(policy, traffic.join("\n"), { seed });
        for (const { asked, admitted, waits } of accounts) expect([admitted, waits.count]).toEqual([asked, asked]);
        for (const { key, limit, peak, inUse, waiting: left } of tallies) {
          expect([inUse, left]).toEqual([0, 0]);
          const reserve = key.startsWith("server_max_outbound_connections @") ? limits.reserve : 0;
          expect(peak).toBeLessThanOrEqual(limit + reserve);
        }
      }),
      { numRuns: Number(process.env["FUZZ_RUNS"] ?? 50) },
    );
  });
});

describe("exponential", () => {
  it("has the mean it is asked for, and is never negative", () => {
    let drawn = 0;
    const values = Array.from({ length: 999 }, () => exponential(1000, () => ++drawn / 1000));
    expect(Math.min(...values)).toBeGreaterThan(0);
    expect(values.reduce((sum, value) => sum + value, 0) / values.length).toBeCloseTo(1000, -2);
  });
});
