// What an observer and the diagnostics channels are told, and what it costs when they fail: nothing.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { describe, expect, it, vi } from "vitest";
import { createLimiter, type Observer, parsePolicy, type Target } from "../src/index.js";
import { NOTHING, open, turn, watch } from "./table/open.js";

const ONE = "max_outbound_connections = 1";
const gmail: Target = { binding: "mta-1", domain: "gmail.com" };
const KEY = "max_outbound_connections mta-1 gmail.com @ global";
const EVENTS = ["queued", "granted", "refused", "released", "lost", "updated", "reloadFailed", "cluster"] as const;

/** An observer that keeps what it was told, as plain data of that moment. */
function recorder(): { readonly observer: Observer; readonly told: [string, unknown][] } {
  const told: [string, unknown][] = [];
  const keep =
    (name: string) =>
    (event: object): void =>
      void told.push([name, JSON.parse(JSON.stringify(event))]);
  return { observer: Object.fromEntries(EVENTS.map((name) => [name, keep(name)])), told };
}

const full = { key: KEY, limit: 1, inUse: 1 };

describe("an observer", () => {
  it("is told of a request that goes at once, and of its release", async () => {
    const { observer, told } = recorder();
    const { limiter, clock } = open(ONE, { observer });
    const lease = await limiter.acquire(gmail);
    clock.advance(1500);
    lease.release();
    lease.release();
    expect(told).toEqual([
      ["granted", { target: gmail, waited: 0, reserve: false, blockedBy: [] }],
      ["released", { target: gmail, held: 1500 }],
    ]);
  });

  it("is told of a request that waits, what for, and that it goes when the release is settled", async () => {
    const { observer, told } = recorder();
    const { limiter, clock } = open(ONE, { observer });
    const lease = limiter.tryAcquire(gmail);
    const waiting = watch(limiter.acquire(gmail));
    told.length = 0;
    watch(limiter.acquire(gmail));
    clock.advance(250);
    lease?.release();
    await turn();
    expect(told).toEqual([
      ["queued", { target: gmail, blockedBy: [{ ...full, waiting: 2, oldestWait: 0 }] }],
      ["released", { target: gmail, held: 250 }],
      [
        "granted",
        { target: gmail, waited: 250, reserve: false, blockedBy: [{ ...full, waiting: 1, oldestWait: 250 }] },
      ],
    ]);
    expect(waiting.value?.waited).toBe(250);
  });

  it("is told which grants came out of the reserve", async () => {
    const { observer, told } = recorder();
    const text = [
      "server_max_outbound_connections = 1",
      "server_reserve_outbound_connections = 2",
      "max_outbound_connections = -1",
    ].join("\n");
    const { limiter } = open(text, { observer });
    const first = await limiter.acquire(gmail);
    await limiter.acquire({ domain: "small.example" });
    void limiter.acquire({ domain: "small.example" });
    first.release();
    await limiter.acquire({ domain: "third.example" });
    const granted = told.filter(([name]) => name === "granted").map(([, event]) => event);
    expect(granted).toMatchObject([
      { target: gmail, reserve: false },
      { target: { domain: "small.example" }, reserve: true },
      { target: { domain: "third.example" }, reserve: true },
    ]);
  });

  it("is told of every request that is refused: aborted, timed out, with the queue full, closed", async () => {
    const { observer, told } = recorder();
    const { limiter, clock } = open(ONE, { observer, maxWaiting: 3 });
    limiter.tryAcquire(gmail);
    const controller = new AbortController();
    watch(limiter.acquire(gmail, { signal: controller.signal }));
    watch(limiter.acquire(gmail, { timeout: 100 }));
    watch(limiter.acquire(gmail));
    watch(limiter.acquire(gmail));
    watch(limiter.acquire(gmail, { timeout: 0 }));
    await turn();
    controller.abort("no longer wanted");
    clock.advance(100);
    void limiter.close();
    const refused = told.filter(([name]) => name === "refused").map(([, event]) => event);
    const state = (waiting: number, oldestWait: number): object => ({
      target: gmail,
      blockedBy: [{ ...full, waiting, oldestWait }],
    });
    expect(refused).toMatchObject([
      { error: { code: "ERR_LIMITER_QUEUE_FULL" }, ...state(3, 0) },
      { error: { code: "ERR_LIMITER_TIMEOUT" }, ...state(3, 0) },
      { error: "no longer wanted", ...state(2, 0) },
      { error: { code: "ERR_LIMITER_TIMEOUT" }, ...state(1, 100) },
      { error: { code: "ERR_LIMITER_CLOSED" }, ...state(0, 0) },
    ]);
  });

  it("is told nothing of a malformed target, of a signal that was aborted before, or of tryAcquire without a slot", async () => {
    const { observer, told } = recorder();
    const { limiter } = open(ONE, { observer });
    limiter.tryAcquire(gmail);
    told.length = 0;
    await expect(limiter.acquire({ domain: "" })).rejects.toThrow(TypeError);
    await expect(limiter.acquire(gmail, { signal: AbortSignal.abort("no") })).rejects.toBe("no");
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    expect(told).toEqual([]);
  });

  it("is told of an update, what is over its limit now, and who goes because of it", async () => {
    const { observer, told } = recorder();
    const { limiter } = open("max_outbound_connections = 2", { observer });
    const other = { domain: "other.example" };
    for (const target of [gmail, gmail, other, other]) limiter.tryAcquire(target);
    watch(limiter.acquire(other));
    told.length = 0;
    const text = 'domain "gmail.com" { max_outbound_connections = 1 }';
    limiter.update(parsePolicy(text, { source: "new.conf" }));
    const key = 'max_outbound_connections mta-1 gmail.com @ domain "gmail.com"';
    expect(told).toMatchObject([
      ["updated", { from: "limits.conf", to: "new.conf", overLimit: [{ key, limit: 1, inUse: 2 }] }],
      ["granted", { target: other, blockedBy: [{ limit: 2 }] }],
    ]);
  });

  it("may use the limiter: the counters are settled", async () => {
    const seen: unknown[] = [];
    const { limiter } = open(ONE, {
      observer: {
        released: () => {
          const { leases, waiting } = limiter.snapshot();
          seen.push({ leases, waiting, stolen: limiter.tryAcquire(gmail) });
        },
      },
    });
    const first = await limiter.acquire(gmail);
    const second = watch(limiter.acquire(gmail));
    first.release();
    await turn();
    expect(second.state).toBe("resolved");
    expect(seen).toEqual([{ leases: 1, waiting: 0, stolen: undefined }]);
  });

  it("that throws costs no slot and no request, and is named once in a warning", async () => {
    const oops = (): never => {
      throw new Error("The observer failed");
    };
    const emitted = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
    try {
      const { limiter, clock } = open(ONE, { observer: Object.fromEntries(EVENTS.map((name) => [name, oops])) });
      const first = await limiter.acquire(gmail);
      const second = watch(limiter.acquire(gmail));
      const third = watch(limiter.acquire(gmail, { timeout: 10 }));
      clock.advance(10);
      expect(() => first.release()).not.toThrow();
      await turn();
      expect([second.state, third.state]).toEqual(["resolved", "rejected"]);
      limiter.update(parsePolicy(ONE));
      second.value?.release();
      expect(limiter.snapshot()).toMatchObject(NOTHING);
      expect(emitted).toHaveBeenCalledOnce();
      expect(emitted.mock.calls[0]?.[0]).toContain("The observer failed");
    } finally {
      emitted.mockRestore();
    }
  });

  it("is called as a method, and has to be an object", () => {
    class Counting {
      grants = 0;
      granted(): void {
        this.grants++;
      }
    }
    const observer = new Counting();
    open(ONE, { observer }).limiter.tryAcquire(gmail);
    expect(observer.grants).toBe(1);
    for (const wrong of [null, 5, "console"] as unknown[] as Observer[]) {
      expect(() => open(ONE, { observer: wrong })).toThrow(TypeError);
    }
  });
});

describe("node:diagnostics_channel", () => {
  it("has the same events, with an observer or without", async () => {
    const told: unknown[] = [];
    const listener = (event: unknown, name: string | symbol): void => void told.push([name, event]);
    for (const name of EVENTS) subscribe(`outbound-limiter:${name}`, listener);
    try {
      for (const options of [{}, { observer: {} }]) {
        const limiter = createLimiter(parsePolicy(ONE), options);
        (await limiter.acquire(gmail)).release();
      }
    } finally {
      for (const name of EVENTS) unsubscribe(`outbound-limiter:${name}`, listener);
    }
    const once = [
      ["outbound-limiter:granted", { target: gmail, waited: 0, reserve: false, blockedBy: [] }],
      ["outbound-limiter:released", { target: gmail, held: expect.any(Number) }],
    ];
    expect(told).toEqual([...once, ...once]);
  });
});
