// One timer for all timeouts: against a naive list, and with clocks that fail, fire at once, or cannot take a timer back.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Deadlines } from "../src/deadlines.js";
import type { Clock } from "../src/index.js";
import { VirtualClock } from "./model/clock.js";

interface One {
  readonly name: number;
  readonly timeout: number;
  readonly deadline: number;
  readonly order: number;
  settled: boolean;
}

/** Deadlines on a clock, and whose time ran out, in that order. */
class Subject {
  readonly expired: { readonly name: number; readonly at: number }[] = [];
  readonly failed: unknown[] = [];
  readonly deadlines: Deadlines<One>;
  readonly #clock: Clock;
  #order = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.deadlines = new Deadlines<One>(clock, {
      expire: (due) => {
        for (const one of due) {
          this.expired.push({ name: one.name, at: clock.now() });
          this.settle(one);
        }
      },
      fail: (all, error) => {
        for (const one of all) {
          this.failed.push(error);
          this.settle(one);
        }
      },
    });
  }

  add(timeout: number): One {
    const order = this.#order++;
    const one = { name: order, order, timeout, deadline: this.#clock.now() + timeout, settled: false };
    try {
      this.deadlines.add(one);
    } catch (error) {
      this.settle(one);
      throw error;
    }
    return one;
  }

  settle(one: One): void {
    one.settled = true;
    this.deadlines.remove();
  }
}

/** A clock that can be kept from arming timers. */
class BreakableClock extends VirtualClock {
  readonly failure = new Error("The clock failed");
  fails = false;

  override after(delay: number, run: () => void): Disposable {
    if (this.fails) throw this.failure;
    return super.after(delay, run);
  }
}

describe("Deadlines", () => {
  it("expire each at its time, in order, and leave no timer behind", () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.record({ do: fc.constant("add" as const), by: fc.integer({ min: 0, max: 500 }) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("settle" as const), by: fc.nat() }) },
      {
        weight: 2,
        arbitrary: fc.record({ do: fc.constant("advance" as const), by: fc.integer({ min: 0, max: 300 }) }),
      },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400, size: "max" }), (steps) => {
        const clock = new VirtualClock();
        const subject = new Subject(clock);
        let waiting: One[] = [];
        const expected: { name: number; at: number }[] = [];
        for (const { do: what, by } of steps) {
          if (what === "add") waiting.push(subject.add(by));
          if (what === "settle" && waiting.length > 0) {
            const [one] = waiting.splice(by % waiting.length, 1);
            if (one !== undefined) subject.settle(one);
          }
          if (what === "advance") {
            const until = clock.now() + by;
            const due = waiting.filter(({ deadline }) => deadline <= until);
            due.sort((a, b) => a.deadline - b.deadline || a.order - b.order);
            expected.push(...due.map(({ name, deadline }) => ({ name, at: deadline })));
            waiting = waiting.filter((one) => !due.includes(one));
            clock.advance(by);
          }
          if (clock.armed !== Math.min(1, waiting.length)) expect(clock.armed).toBe(Math.min(1, waiting.length));
        }
        expect(subject.expired).toEqual(expected);
        clock.advance(1000);
        expect(subject.expired).toHaveLength(expected.length + waiting.length);
        expect(clock.armed).toBe(0);
      }),
      { numRuns: 200 * Math.max(1, Number(process.env["FUZZ_RUNS"] ?? 1000) / 1000) },
    );
  });

  it("arm one timer for a hundred thousand, and forget those who left", () => {
    let armed = 0;
    const clock = new VirtualClock();
    const counting: Clock = {
      now: () => clock.now(),
      after(delay, run) {
        armed++;
        return clock.after(delay, run);
      },
    };
    const subject = new Subject(counting);
    const all = Array.from({ length: 100_000 }, () => subject.add(60_000));
    expect(armed).toBe(1);
    for (const one of all.slice(1)) subject.settle(one);
    clock.advance(60_000);
    expect(subject.expired).toEqual([{ name: 0, at: clock.now() }]);
    expect(armed).toBe(1);
  });

  it("keep the timer of the others when the clock fails to arm another one", () => {
    const clock = new BreakableClock();
    const subject = new Subject(clock);
    subject.add(100);
    clock.fails = true;
    expect(() => subject.add(50)).toThrow(clock.failure);
    clock.advance(100);
    expect(subject.expired).toEqual([{ name: 0, at: clock.now() }]);
    expect(clock.armed).toBe(0);
  });

  it("refuse everybody when the clock fails between two deadlines: nobody waits for ever", () => {
    const clock = new BreakableClock();
    const subject = new Subject(clock);
    for (const timeout of [10, 20, 30]) subject.add(timeout);
    clock.fails = true;
    clock.advance(10);
    expect(subject.expired.map(({ name }) => name)).toEqual([0]);
    expect(subject.failed).toEqual([clock.failure, clock.failure]);
    clock.fails = false;
    subject.add(10);
    clock.advance(10);
    expect(subject.expired.map(({ name }) => name)).toEqual([0, 3]);
  });

  it("take a clock at its word that fires at once", () => {
    const subject = new Subject({
      now: () => 0,
      after(_, run) {
        run();
        return { [Symbol.dispose]: () => undefined };
      },
    });
    for (const timeout of [20, 10]) subject.add(timeout);
    expect(subject.expired.map(({ name }) => name)).toEqual([0, 1]);
  });

  it("bear a clock that cannot take a timer back, or whose time stands still", () => {
    const runs: (() => void)[] = [];
    const subject = new Subject({
      now: () => 0,
      after(_, run) {
        runs.push(run);
        return {
          [Symbol.dispose]() {
            throw new Error("The clock failed");
          },
        };
      },
    });
    subject.add(20);
    const soon = subject.add(10);
    subject.settle(soon);
    for (const run of [...runs, ...runs]) run();
    expect(subject.expired).toEqual([{ name: 0, at: 0 }]);
  });
});
