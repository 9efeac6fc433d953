// Idle leases: asked to end when somebody waits for their slots, and nobody else is.
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { memoryCluster, parsePolicy } from "../../src/index.js";
import { open, turn, watch } from "./open.js";

const GMAIL = { domain: "gmail.com" };

describe("an idle lease", () => {
  it("is asked to end when somebody waits for its slot", async () => {
    const { limiter } = open("max_outbound_connections = 2");
    const [idle, busy] = [await limiter.acquire(GMAIL), await limiter.acquire(GMAIL)];
    const asked: string[] = [];
    idle.idle(() => {
      asked.push("idle");
      idle.release();
    });
    await turn();
    expect(asked).toEqual([]);
    const next = watch(limiter.acquire(GMAIL));
    await turn();
    expect(asked).toEqual(["idle"]);
    expect(next.state).toBe("resolved");
    busy.release();
  });

  it("is asked at once if somebody waits already, also behind others of his queue", async () => {
    const { limiter } = open("max_outbound_connections = 2");
    const leases = [await limiter.acquire(GMAIL), await limiter.acquire(GMAIL)];
    const waiting = [watch(limiter.acquire(GMAIL)), watch(limiter.acquire(GMAIL)), watch(limiter.acquire(GMAIL))];
    for (const lease of leases) lease.idle(lease.release);
    await turn();
    expect(waiting.map(({ state }) => state)).toEqual(["resolved", "resolved", "pending"]);
    waiting[0]?.value?.idle(() => waiting[0]?.value?.release());
    await turn();
    expect(waiting[2]?.state).toBe("resolved");
  });

  it("is left alone while others are idle longer, or who waits needs none of its slots", async () => {
    const { limiter } = open("max_outbound_connections = 2\nserver_max_outbound_connections = 10");
    const leases = [await limiter.acquire(GMAIL), await limiter.acquire(GMAIL)];
    const other = await limiter.acquire({ domain: "orange.fr" });
    const asked: number[] = [];
    for (const [at, lease] of [...leases, other].entries()) lease.idle(() => asked.push(at));
    watch(limiter.acquire(GMAIL));
    await turn();
    expect(asked).toEqual([0]);
    watch(limiter.acquire(GMAIL));
    await turn();
    expect(asked).toEqual([0, 1]);
  });

  it("is left alone when the slot of one that was asked serves who waited", async () => {
    const { limiter } = open("max_outbound_connections = 4");
    const leases = [1, 2, 3, 4].map(() => limiter.tryAcquire(GMAIL)!);
    const asked: number[] = [];
    for (const [at, lease] of leases.entries()) lease.idle(() => asked.push(at));
    const waiting = [watch(limiter.acquire(GMAIL)), watch(limiter.acquire(GMAIL))];
    await turn();
    expect(asked).toEqual([0, 1]);
    for (const at of [1, 0]) {
      leases[at]!.release();
      await turn();
    }
    expect(waiting.map(({ state }) => state)).toEqual(["resolved", "resolved"]);
    expect(asked).toEqual([0, 1]);
  });

  it("is not asked once it is busy, and then another is", async () => {
    const { limiter } = open("max_outbound_connections = 2");
    const [first, second] = [await limiter.acquire(GMAIL), await limiter.acquire(GMAIL)];
    const asked: string[] = [];
    first.idle(() => asked.push("first"));
    first.busy();
    const next = watch(limiter.acquire(GMAIL));
    await turn();
    expect(asked).toEqual([]);
    first.idle(() => {
      asked.push("first");
      // In use again before it could be closed.
      first.busy();
    });
    second.idle(() => {
      asked.push("second");
      second.release();
    });
    await turn();
    expect(asked).toEqual(["first", "second"]);
    expect(next.state).toBe("resolved");
  });

  it("costs no slot if what it calls throws", async () => {
    const { limiter } = open("max_outbound_connections = 1");
    const lease = await limiter.acquire(GMAIL);
    const warnings = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
    onTestFinished(() => warnings.mockRestore());
    lease.idle(() => {
      throw new Error("of the caller");
    });
    const next = watch(limiter.acquire(GMAIL));
    await turn();
    expect(warnings.mock.calls).toEqual([
      [expect.stringContaining("Error: of the caller"), { code: "OUTBOUND_LIMITER_IDLE" }],
    ]);
    lease.release();
    await turn();
    expect(next.state).toBe("resolved");
    expect(() => lease.idle(undefined as never)).toThrow(TypeError);
  });

  it("is asked under the limits of a new policy", async () => {
    const { limiter } = open("max_outbound_connections = 5");
    const lease = await limiter.acquire(GMAIL);
    lease.idle(lease.release);
    limiter.update(parsePolicy("max_outbound_connections = 1"));
    const next = watch(limiter.acquire(GMAIL));
    await turn();
    expect(next.state).toBe("resolved");
  });

  it("is asked when a limit is lowered below what is open, and not more than are above it", async () => {
    const { limiter } = open("max_outbound_connections = 5");
    const leases = [1, 2, 3, 4, 5].map(() => limiter.tryAcquire(GMAIL)!);
    const asked: number[] = [];
    for (const [at, lease] of leases.slice(0, 4).entries()) lease.idle(() => asked.push(at));
    limiter.update(parsePolicy("max_outbound_connections = 3"));
    await turn();
    expect(asked).toEqual([0, 1]);
    // They have not ended yet, and that is enough.
    leases[4]!.idle(() => asked.push(4));
    limiter.update(parsePolicy("max_outbound_connections = 3"));
    await turn();
    expect(asked).toEqual([0, 1]);
    limiter.update(parsePolicy("max_outbound_connections = 2"));
    await turn();
    expect(asked).toEqual([0, 1, 2]);
    for (const lease of leases) lease.release();
  });

  it("is asked under a limit that there was not before", async () => {
    const { limiter } = open("max_outbound_connections = -1\nserver_max_outbound_connections = -1");
    const leases = [limiter.tryAcquire(GMAIL)!, limiter.tryAcquire(GMAIL)!];
    for (const lease of leases) lease.idle(lease.release);
    limiter.update(parsePolicy("max_outbound_connections = 1"));
    await turn();
    expect(limiter.snapshot().leases).toBe(1);
  });

  it("keeps what it has out of the reserve", async () => {
    const { limiter } = open("server_max_outbound_connections = 1\nserver_reserve_outbound_connections = 1");
    const leases = [limiter.tryAcquire(GMAIL)!, limiter.tryAcquire({ domain: "orange.fr" })!];
    for (const lease of leases) lease.idle(lease.release);
    await turn();
    expect([limiter.snapshot().leases, leases[1]!.surplus]).toEqual([2, false]);
  });

  it("is asked when a limit of the cluster is lowered below what all have open", async () => {
    const cluster = memoryCluster();
    const { createLimiter } = await import("../../src/index.js");
    const make = () => createLimiter(parsePolicy("cluster_server_max_outbound_connections = 5"), { cluster });
    const [here, there] = [make(), make()];
    const [held] = await Promise.all([there.acquire(GMAIL), there.acquire(GMAIL)]);
    const leases = await Promise.all([here.acquire(GMAIL), here.acquire(GMAIL), here.acquire(GMAIL)]);
    for (const lease of leases) lease.idle(lease.release);
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(here.snapshot().leases).toBe(3);
    here.update(parsePolicy("cluster_server_max_outbound_connections = 3"));
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(here.snapshot().leases).toBe(1);
    expect(held.surplus).toBe(false);
    there.update(parsePolicy("cluster_server_max_outbound_connections = 2"));
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(held.surplus).toBe(true);
  });

  it("is asked when the limiter closes, also if it is idle only then", async () => {
    const { limiter } = open("max_outbound_connections = 5");
    const leases = [1, 2, 3].map(() => limiter.tryAcquire(GMAIL)!);
    const asked: number[] = [];
    const idle = (at: number) => {
      leases[at]!.idle(() => {
        asked.push(at);
        setTimeout(leases[at]!.release);
      });
    };
    idle(0);
    idle(1);
    limiter.update(parsePolicy("max_outbound_connections = 2"));
    await Promise.resolve();
    expect(asked).toEqual([0]);
    const closed = watch(limiter.close());
    void limiter.close();
    await Promise.resolve();
    expect([asked, closed.state]).toEqual([[0, 1], "pending"]);
    idle(2);
    await turn();
    expect(asked).toEqual([0, 1, 2]);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(closed.state).toBe("resolved");
  });

  it("is asked when another process waits for a limit of the cluster", async () => {
    const cluster = memoryCluster();
    const policy = "cluster_server_max_outbound_connections = 1";
    const { createLimiter } = await import("../../src/index.js");
    const [here, there] = [
      createLimiter(parsePolicy(policy), { cluster }),
      createLimiter(parsePolicy(policy), { cluster }),
    ] as const;
    const lease = await here.acquire(GMAIL);
    let isAsked = false;
    lease.idle(() => {
      isAsked = true;
      lease.release();
    });
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(isAsked).toBe(false);
    const next = watch(there.acquire(GMAIL));
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(next.state).toBe("resolved");
  });
});

describe("a lease that is busy", () => {
  it("says whether it is above a lowered limit, those not counted that end already", async () => {
    const { limiter } = open("max_outbound_connections = 3\nserver_max_outbound_connections = 10");
    const leases = [1, 2, 3].map(() => limiter.tryAcquire(GMAIL)!);
    const other = limiter.tryAcquire({ domain: "orange.fr" })!;
    expect(leases.map(({ surplus }) => surplus)).toEqual([false, false, false]);
    limiter.update(parsePolicy("max_outbound_connections = 1\nserver_max_outbound_connections = 10"));
    expect([...leases, other].map(({ surplus }) => surplus)).toEqual([true, true, true, false]);
    leases[0]!.idle(() => {});
    expect(leases.map(({ surplus }) => surplus)).toEqual([true, true, true]);
    leases[1]!.idle(() => {});
    expect(leases[2]!.surplus).toBe(false);
    leases[0]!.busy();
    expect(leases[2]!.surplus).toBe(true);
    leases[0]!.release();
    expect(leases.map(({ surplus }) => surplus)).toEqual([false, false, false]);
  });
});
