// limiter.run: acquire, work, release on every path.
import { describe, expect, it, vi } from "vitest";
import type { Target } from "../../src/index.js";
import { NOTHING, open, turn, watch } from "./open.js";

const ONE = "max_outbound_connections = 1";
const gmail: Target = { binding: "mta-1", domain: "gmail.com" };

/** A thenable that is no Promise. */
class Later<T> implements PromiseLike<T> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  // oxlint-disable-next-line unicorn/no-thenable
  // biome-ignore lint/suspicious/noThenProperty: a thenable is what is tested
  get then(): PromiseLike<T>["then"] {
    const promise = Promise.resolve(this.#value);
    return promise.then.bind(promise);
  }
}

describe("run", () => {
  it("resolves to what the work resolves to, and holds the slot until then", async () => {
    const { limiter } = open(ONE);
    const result = await limiter.run(gmail, async (lease) => {
      expect(lease.target).toMatchObject(gmail);
      expect(limiter.snapshot().leases).toBe(1);
      await turn();
      expect(limiter.snapshot().leases).toBe(1);
      return "sent";
    });
    expect(result).toBe("sent");
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("takes work that returns a plain value, or a thenable", async () => {
    const { limiter } = open(ONE);
    await expect(limiter.run(gmail, () => 5)).resolves.toBe(5);
    await expect(limiter.run(gmail, () => new Later(6))).resolves.toBe(6);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("releases when the work throws before its first await", async () => {
    const { limiter } = open(ONE);
    const failure = new Error("sync");
    const work = (): never => {
      throw failure;
    };
    await expect(limiter.run(gmail, work)).rejects.toBe(failure);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("releases when the work throws after an await", async () => {
    const { limiter } = open(ONE);
    const failure = new Error("async");
    const work = async (): Promise<never> => {
      await turn();
      throw failure;
    };
    await expect(limiter.run(gmail, work)).rejects.toBe(failure);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("releases when the work returns a promise that rejects", async () => {
    const { limiter } = open(ONE);
    const failure = new Error("rejected");
    await expect(limiter.run(gmail, async () => Promise.reject(failure))).rejects.toBe(failure);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("does not free a second slot when the work has released its lease", async () => {
    const { limiter } = open("max_outbound_connections = 2");
    const other = await limiter.acquire(gmail);
    await limiter.run(gmail, (lease) => {
      lease.release();
    });
    expect(limiter.snapshot().leases).toBe(1);
    other.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("waits its turn, and lets the next one go when it is done", async () => {
    const { limiter } = open(ONE);
    const order: string[] = [];
    const work = (name: string) => async (): Promise<void> => {
      order.push(`${name} begins`);
      await turn();
      order.push(`${name} ends`);
    };
    await Promise.all(["a", "b", "c"].map(async (name) => limiter.run(gmail, work(name))));
    expect(order).toEqual(["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
  });

  it("does not begin the work when the slot cannot be had", async () => {
    const { limiter, clock } = open(ONE);
    const lease = await limiter.acquire(gmail);
    const work = vi.fn();
    const controller = new AbortController();
    const late = watch(limiter.run(gmail, work, { timeout: 10 }));
    const aborted = watch(limiter.run(gmail, work, { signal: controller.signal }));
    clock.advance(10);
    controller.abort("changed my mind");
    await turn();
    expect(late.error).toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
    expect(aborted.error).toBe("changed my mind");
    lease.release();
    await turn();
    expect(work).not.toHaveBeenCalled();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });
});
