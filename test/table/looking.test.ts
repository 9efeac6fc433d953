// explain, snapshot and leases: what they show of the table, and that looking changes nothing.
import { describe, expect, it } from "vitest";
import type { Lease, Target } from "../../src/index.js";
import { NOTHING, open, turn, watch } from "./open.js";

const gmail: Target = { binding: "mta-1", domain: "gmail.com" };
const small: Target = { binding: "mta-1", domain: "small.example" };

describe("explain", () => {
  it("changes nothing, for a target never seen and for one that waits", async () => {
    const { limiter, clock } = open("max_outbound_connections = 1");
    limiter.explain(gmail);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
    expect(clock.armed).toBe(0);

    const lease = await limiter.acquire(gmail);
    const waiting = watch(limiter.acquire(gmail, { timeout: 1000 }));
    const before = limiter.snapshot();
    for (let i = 0; i < 50; i++) limiter.explain(gmail);
    limiter.explain(small);
    expect(limiter.snapshot()).toEqual(before);
    lease.release();
    await turn();
    expect(waiting.state).toBe("resolved");
  });

  it('says "go" when acquire would return at once and "wait" when it would not', async () => {
    const { limiter } = open("max_outbound_connections = 1");
    expect(limiter.explain(gmail).verdict).toBe("go");
    const lease = await limiter.acquire(gmail);
    expect(limiter.explain(gmail).verdict).toBe("wait");
    expect(limiter.explain(small).verdict).toBe("go");
    lease.release();
    expect(limiter.explain(gmail).verdict).toBe("go");
  });

  it("counts the slots in use, the requests a limit holds up and how long the oldest has waited", () => {
    const { limiter, clock } = open(`
      max_outbound_connections = 2
      domain "gmail.com" { scope_max_outbound_connections = 3 }`);
    const limits = (): unknown => {
      const { limits } = limiter.explain(gmail);
      return ["max_outbound_connections", "scope_max_outbound_connections"].map((wanted) => {
        const found = limits.find(({ option }) => option === wanted);
        return found && [found.limit, found.inUse, found.waiting, found.oldestWait];
      });
    };
    limiter.tryAcquire(gmail);
    limiter.tryAcquire(gmail);
    expect(limits()).toEqual([
      [2, 2, 0, 0],
      [3, 2, 0, 0],
    ]);
    void limiter.acquire(gmail);
    clock.advance(100);
    void limiter.acquire(gmail);
    clock.advance(50);
    // The scope has room for one more, and so it holds up nobody.
    expect(limits()).toEqual([
      [2, 2, 2, 150],
      [3, 2, 0, 0],
    ]);
    limiter.tryAcquire({ binding: "mta-2", domain: "gmail.com" });
    void limiter.acquire({ binding: "mta-2", domain: "gmail.com" });
    clock.advance(1);
    expect(limits()).toEqual([
      [2, 2, 2, 151],
      [3, 3, 3, 151],
    ]);
  });
});

describe("snapshot", () => {
  it("is plain JSON", () => {
    const { limiter } = open("max_outbound_connections = 1");
    limiter.tryAcquire(gmail);
    void limiter.acquire(gmail);
    const snapshot = limiter.snapshot();
    expect(JSON.parse(JSON.stringify(snapshot))).toEqual(snapshot);
  });

  it("does not change with the table once taken", async () => {
    const { limiter } = open("max_outbound_connections = 1");
    const lease = await limiter.acquire(gmail);
    const snapshot = limiter.snapshot();
    const copy = structuredClone(snapshot);
    lease.release();
    limiter.tryAcquire(small);
    expect(snapshot).toEqual(copy);
  });

  it("shows the same counts as explain, under the same keys", () => {
    const { limiter, clock } = open(
      'max_outbound_connections = 1\nbinding "mta-1" { server_max_outbound_connections = 1 }',
    );
    limiter.tryAcquire(gmail);
    void limiter.acquire(gmail);
    clock.advance(10);
    const explained = limiter
      .explain(gmail)
      .limits.map(({ key, limit, inUse, waiting, oldestWait }) => ({ key, limit, inUse, waiting, oldestWait }));
    expect(limiter.snapshot().counters).toHaveLength(explained.length);
    expect(limiter.snapshot().counters).toEqual(expect.arrayContaining(explained));
  });

  it("holds no counter of a name once nobody is there, however many came", async () => {
    const { limiter, clock } = open("max_outbound_connections = 1\nserver_max_outbound_connections = -1");
    for (let i = 0; i < 3000; i++) {
      const target = { domain: `name-${String(i)}.example` };
      const lease = limiter.tryAcquire(target);
      const controller = new AbortController();
      watch(limiter.acquire(target, { signal: controller.signal, timeout: 10 }));
      controller.abort();
      lease?.release();
    }
    await turn();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
    expect(clock.armed).toBe(0);
  });
});

describe("leases", () => {
  it("lists who holds slots, oldest first, for how long, and of which counters", async () => {
    const { limiter, clock } = open(
      'max_outbound_connections = 1\ndomain "gmail.com" { scope_max_outbound_connections = 5 }',
    );
    expect([...limiter.leases()]).toEqual([]);
    const first = await limiter.acquire(gmail);
    const handedOver = watch(limiter.acquire(gmail));
    clock.advance(10);
    limiter.tryAcquire(small);
    clock.advance(10);
    first.release();
    await turn();
    clock.advance(5);
    const listed = [...limiter.leases()];
    expect(listed).toMatchObject([
      { target: small, heldFor: 15 },
      { target: gmail, heldFor: 5 },
    ]);
    for (const { target, counters } of listed) {
      expect(counters.toSorted()).toEqual(
        limiter
          .explain(target)
          .limits.map(({ key }) => key)
          .toSorted(),
      );
    }
    handedOver.value?.release();
    expect([...limiter.leases()]).toMatchObject([{ target: small }]);
  });

  it("stays in order when one in the middle is released", () => {
    const { limiter, clock } = open("max_outbound_connections = 1");
    const held: (Lease | undefined)[] = [];
    for (const name of ["a", "b", "c", "d"]) {
      held.push(limiter.tryAcquire({ domain: `${name}.example` }));
      clock.advance(1);
    }
    held[1]?.release();
    limiter.tryAcquire({ domain: "b.example" });
    expect([...limiter.leases()].map(({ target, heldFor }) => [target.domain, heldFor])).toEqual([
      ["a.example", 4],
      ["c.example", 2],
      ["d.example", 1],
      ["b.example", 0],
    ]);
  });

  it("may be walked while leases are released", () => {
    const { limiter } = open("max_outbound_connections = 1");
    const held = ["a", "b", "c"].map((name) => limiter.tryAcquire({ domain: `${name}.example` }));
    let walked = 0;
    for (const _ of limiter.leases()) held[walked++]?.release();
    expect(walked).toBeGreaterThan(0);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });
});
