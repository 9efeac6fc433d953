// The rules of the engine of the cluster limits, one by one, on the ledger.

import { describe, expect, test } from "vitest";
import type { Ask, Engine, Push, Reply, Standing, Statement } from "../../src/cluster/engine.js";
import { Ledger, type LedgerOptions } from "../../src/cluster/ledger.js";

const TTL = 1000;
/** The longest step of its clock that an engine believes. */
const STEP = TTL / 4;

type Ok = Extract<Reply, { status: "ok" }>;

/** A process as far as the engine is concerned: it numbers its statements and remembers the epoch. */
class Member {
  readonly id: string;
  readonly heard: Push[] = [];
  epoch = "";
  sequence = 0;
  readonly #engine: Engine;

  constructor(engine: Engine, id: string) {
    this.#engine = engine;
    this.id = id;
  }

  async state(statement: Partial<Statement> = {}): Promise<Reply> {
    const reply = await this.#engine.state({
      member: this.id,
      label: `host ${this.id}`,
      sequence: ++this.sequence,
      epoch: this.epoch,
      full: false,
      beat: false,
      leave: false,
      holds: new Map(),
      asks: [],
      members: 0,
      ...statement,
    });
    if (reply.status !== "stale") this.epoch = reply.epoch;
    return reply;
  }

  async ok(statement: Partial<Statement> = {}): Promise<Ok> {
    const reply = await this.state(statement);
    if (reply.status !== "ok") throw new Error(`status ${reply.status}`);
    return reply;
  }

  hold(key: string, held: number): Promise<Ok> {
    return this.ok({ holds: new Map([[key, held]]) });
  }

  async ask(id: number, count: number, slots: Record<string, number>): Promise<readonly number[]> {
    return (await this.ok({ asks: [wish(id, count, slots)] })).granted;
  }

  listen(): Disposable {
    return (this.#engine as Ledger).listen(this.id, (push) => this.heard.push(push));
  }
}

function wish(id: number, count: number, slots: Record<string, number>): Ask {
  return { id, count, slots: Object.entries(slots).map(([key, limit]) => ({ key, limit })) };
}

interface Place {
  readonly ledger: Ledger;
  readonly wait: (time: number) => void;
  /** A member that made its first, full statement. */
  readonly join: (id: string, holds?: Record<string, number>) => Promise<Member>;
}

function open(options: LedgerOptions = {}): Place {
  let now = 5000;
  const ledger = new Ledger({ now: () => now, ...options });
  return {
    ledger,
    wait: (time) => {
      now += time;
    },
    join: async (id, holds = {}) => {
      const member = new Member(ledger, id);
      await member.ok({ full: true, holds: new Map(Object.entries(holds)) });
      return member;
    },
  };
}

const standing = ({ standings }: Ok, key: string): Standing | undefined =>
  standings.find((standing) => standing.key === key);
const totals = ({ ledger }: Place): Record<string, number> => Object.fromEntries(ledger.queues.totals);
const waiting = ({ ledger }: Place, key: string): string[] =>
  (ledger.queues.lines.get(key) ?? []).map(({ member, id }) => `${member}${id}`);

describe("statements", () => {
  test("a member that is not known has to make a full statement first", async () => {
    const { ledger } = open();
    const member = new Member(ledger, "a");
    expect(await member.state()).toMatchObject({ status: "unknown", epoch: expect.stringMatching(/./) });
    expect((await member.state({ full: true })).status).toBe("ok");
    expect((await member.state()).status).toBe("ok");
    expect((await member.state({ epoch: "another" })).status).toBe("unknown");
  });

  test("one that is not newer than the last is stale, and changes nothing", async () => {
    const place = open();
    const a = await place.join("a", { X: 2 });
    expect(await a.state({ sequence: 1, full: true })).toEqual({ status: "stale" });
    expect(await a.state({ sequence: 0, holds: new Map([["X", 5]]) })).toEqual({ status: "stale" });
    expect(totals(place)).toEqual({ X: 2 });
  });

  test("numbers are absolute, and what is not mentioned stays", async () => {
    const place = open();
    const a = await place.join("a", { X: 2, Y: 1 });
    const b = await place.join("b", { X: 1 });
    await a.hold("X", 4);
    await a.hold("X", 4);
    expect(totals(place)).toEqual({ X: 5, Y: 1 });
    expect(standing(await b.hold("X", 0), "X")).toEqual({ key: "X", held: 0, total: 4, contended: false });
    await a.ok({ holds: new Map(Object.entries({ X: 0, Y: 0 })) });
    expect(totals(place)).toEqual({});
  });

  test("a full one gives back what it does not mention", async () => {
    const place = open();
    const a = await place.join("a", { X: 2, Y: 1 });
    await a.ok({ full: true, holds: new Map([["X", 1]]) });
    expect(totals(place)).toEqual({ X: 1 });
  });

  test("a beat tells of all that is held or asked, another statement of what it mentions", async () => {
    const place = open();
    await place.join("b", { Z: 1 });
    const a = await place.join("a", { X: 2, Y: 1 });
    expect(await a.ask(1, 1, { Z: 1, W: 9 })).toEqual([]);
    expect((await a.ok({ beat: true })).standings.map(({ key }) => key).sort()).toEqual(["W", "X", "Y", "Z"]);
    expect((await a.hold("X", 2)).standings.map(({ key }) => key)).toEqual(["X"]);
  });

  test("members are told of once for each version of the list", async () => {
    const place = open();
    const a = await place.join("a");
    const { version, members } = await a.ok();
    expect(members).toEqual(["a"]);
    expect((await a.ok({ members: version })).members).toBeUndefined();
    await place.join("b");
    const next = await a.ok({ members: version });
    expect(next.members).toEqual(["a", "b"]);
    expect(next.version).toBeGreaterThan(version);
  });
});

describe("asks", () => {
  test("are granted at once as far as there is room in all their counters", async () => {
    const place = open();
    const a = await place.join("a", { Y: 1 });
    expect(await a.ask(1, 5, { X: 9, Y: 4 })).toEqual([1, 1, 1]);
    expect(totals(place)).toEqual({ X: 3, Y: 4 });
    expect(waiting(place, "Y")).toEqual(["a1"]);
  });

  test("are judged by their own limits", async () => {
    const place = open();
    const a = await place.join("a", { X: 3 });
    const b = await place.join("b");
    expect(await a.ask(1, 1, { X: 3 })).toEqual([]);
    expect(await b.ask(1, 1, { X: 4 })).toEqual([1]);
    // The one with the lower limit is first in the queue, and holds nobody up.
    expect(await b.ask(2, 1, { X: 4 })).toEqual([]);
    await a.hold("X", 2);
    expect((await b.ok()).granted).toEqual([2]);
    expect(waiting(place, "X")).toEqual(["a1"]);
  });

  test("count absolutely, keep their place, and are withdrawn with 0", async () => {
    const place = open();
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b");
    await a.ask(1, 1, { X: 1 });
    await b.ask(1, 1, { X: 1 });
    await a.ask(1, 3, { X: 1 });
    expect(waiting(place, "X")).toEqual(["a1", "b1"]);
    await a.ask(1, 0, {});
    expect(waiting(place, "X")).toEqual(["b1"]);
  });

  test("a count does not know what was granted meanwhile", async () => {
    const place = open();
    const a = await place.join("a", { X: 2 });
    const b = await place.join("b");
    await b.ask(1, 2, { X: 2 });
    await a.hold("X", 1);
    // One is in the inbox of b. It wants three, and has one of them already.
    expect(await b.ask(1, 3, { X: 2 })).toEqual([1]);
    expect(place.ledger.queues.of("b").get(1)?.count).toBe(2);
    // And here the last one that it wants.
    await a.hold("X", 0);
    expect(await b.ask(1, 1, { X: 2 })).toEqual([1]);
    expect(waiting(place, "X")).toEqual([]);
  });
});

describe("hand-over", () => {
  test("a slot given back goes to who waits, before whoever asks with the same statement", async () => {
    const place = open();
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b");
    await b.ask(1, 1, { X: 1 });
    const reply = await a.ok({ holds: new Map([["X", 0]]), asks: [wish(1, 1, { X: 1 })] });
    expect(reply.granted).toEqual([]);
    expect(standing(reply, "X")).toEqual({ key: "X", held: 0, total: 1, contended: false });
    const collected = await b.ok();
    expect(collected.granted).toEqual([1]);
    expect(standing(collected, "X")).toEqual({ key: "X", held: 1, total: 1, contended: true });
  });

  test("members take turns, one set a turn, and so do the asks of a member", async () => {
    const place = open();
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b");
    const c = await place.join("c");
    await b.ask(1, 2, { X: 1 });
    await b.ask(2, 1, { X: 1 });
    await c.ask(1, 2, { X: 1 });
    const order: string[] = [];
    let holder: Member | undefined = a;
    while (holder !== undefined) {
      await holder.hold("X", 0);
      holder = undefined;
      for (const member of [b, c]) {
        const { granted } = await member.ok();
        if (granted.length === 0) continue;
        order.push(`${member.id}${granted.join()}`);
        holder = member;
      }
    }
    expect(order).toEqual(["b1", "c1", "b2", "c1", "b1"]);
  });

  test("what is granted to another is not given back by a statement that does not know of it", async () => {
    const place = open();
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b", { X: 1 });
    await b.ask(1, 1, { X: 2 });
    await a.hold("X", 0);
    const reply = await b.hold("X", 1);
    expect(reply.granted).toEqual([1]);
    expect(standing(reply, "X")).toMatchObject({ held: 2, total: 2 });
  });

  test("a lost reply costs nothing: a full statement says what was seen", async () => {
    const place = open();
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b");
    await b.ask(1, 2, { X: 1 });
    await a.hold("X", 0);
    await b.ok();
    // b did not get that reply: it holds nothing and asks for two.
    const reply = await b.ok({ full: true, asks: [wish(1, 2, { X: 1 })] });
    expect(reply.granted).toEqual([1]);
    expect(totals(place)).toEqual({ X: 1 });
    expect(place.ledger.queues.of("b").get(1)?.count).toBe(1);
  });
});

describe("two busy counters", () => {
  /** X and Y have one slot each, which a and b pass on to each other without end; c needs both. */
  async function starving() {
    const place = open();
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b", { Y: 1 });
    const c = await place.join("c");
    await c.ask(1, 1, { X: 1, Y: 1 });
    for (let ask = 1; ask <= 8; ask++) {
      for (const [member, key] of [
        [a, "X"],
        [b, "Y"],
      ] as const) {
        expect(totals(place)).toEqual({ X: 1, Y: 1 });
        await member.ask(ask, 1, { [key]: 1 });
        await member.hold(key, 0);
        await member.ok();
      }
    }
    expect(place.ledger.queues.of("c").get(1)?.passed).toBe(16);
    return { place, a, b, c };
  }

  test("an ask passed over too often keeps slots until it has all", async () => {
    const { place, a, b, c } = await starving();
    expect(totals(place)).toEqual({ X: 1 });
    expect(await b.ask(9, 1, { Y: 1 })).toEqual([]);
    await a.ask(9, 1, { X: 1 });
    await a.hold("X", 0);
    expect((await c.ok()).granted).toEqual([1]);
    expect(totals(place)).toEqual({ X: 1, Y: 1 });
    // It keeps nothing any more.
    await c.ok({ holds: new Map(Object.entries({ X: 0, Y: 0 })) });
    expect(totals(place)).toEqual({ X: 1, Y: 1 });
  });

  test.each<[string, (c: Member) => Promise<unknown>]>([
    ["is withdrawn", (c) => c.ask(1, 0, {})],
    ["is not stated again", (c) => c.ok({ full: true })],
    ["leaves with its member", (c) => c.ok({ leave: true })],
  ])("what an ask keeps is free for others when it %s", async (_, end) => {
    const { place, b, c } = await starving();
    expect(totals(place)).toEqual({ X: 1 });
    await end(c);
    expect((await b.ok()).granted).toEqual([8]);
    expect(totals(place)).toEqual({ X: 1, Y: 1 });
  });
});

describe("a hand-over of many", () => {
  test("is cut, and the next statement of anybody goes on with it", async () => {
    const place = open();
    const a = await place.join("a", { X: 100 });
    const b = await place.join("b");
    const c = await place.join("c");
    await b.ask(1, 100, { X: 100 });
    const reply = await a.hold("X", 0);
    expect(reply.more).toBe(true);
    expect(totals(place)).toEqual({ X: 64 });
    // Who comes now waits behind those who waited.
    const next = await c.ok({ asks: [wish(1, 1, { X: 101 })] });
    expect(next).toMatchObject({ more: false, granted: [1] });
    expect(totals(place)).toEqual({ X: 101 });
    expect((await b.ok()).granted).toHaveLength(100);
  });

  test("newcomers wait behind one that is still cut", async () => {
    const place = open();
    const a = await place.join("a", { X: 200 });
    const b = await place.join("b");
    const c = await place.join("c");
    await b.ask(1, 200, { X: 200 });
    await a.hold("X", 0);
    const reply = await c.ok({ asks: [wish(1, 1, { X: 200 })] });
    expect(reply).toMatchObject({ more: true, granted: [] });
    expect(waiting(place, "X")).toEqual(["b1", "c1"]);
    for (let more = true; more; ) more = (await a.ok()).more;
    expect(totals(place)).toEqual({ X: 200 });
    expect((await c.ok()).granted).toEqual([1]);
  });
});

describe("spare slots", () => {
  test("half of what is free, divided by the members, to who got all it asked for at once", async () => {
    const place = open();
    const a = await place.join("a");
    await place.join("b");
    const reply = await a.ok({ asks: [wish(1, 1, { X: 21, Y: 1000 })] });
    expect(standing(reply, "X")).toMatchObject({ held: 6, total: 6 });
    expect(standing(reply, "Y")).toMatchObject({ held: 65 });
  });

  test("none where a limit is as low as the members are many", async () => {
    const place = open();
    const a = await place.join("a");
    for (const id of ["b", "c"]) await place.join(id);
    expect(standing(await a.ok({ asks: [wish(1, 1, { X: 3 })] }), "X")).toMatchObject({ held: 1, total: 1 });
  });

  test("none where somebody waits, and none for who has to wait", async () => {
    const place = open();
    const a = await place.join("a", { Y: 1 });
    const b = await place.join("b");
    expect(await a.ask(1, 1, { Y: 1, X: 9 })).toEqual([]);
    expect(totals(place)).toEqual({ Y: 1 });
    await b.ok({ full: true, asks: [wish(1, 1, { Z: 9 })] });
    const before = totals(place)["Z"] ?? 0;
    expect(before).toBeGreaterThan(1);
    // With a lower limit than the others', a waits at Z.
    await a.ask(2, 1, { Z: 1 });
    const reply = await b.ok({ asks: [wish(2, 1, { Z: 9 })] });
    expect(standing(reply, "Z")?.held).toBe((totals(place)["Z"] ?? 0) - 0);
    expect(reply.granted).toEqual([2]);
    expect(standing(await b.ok({ asks: [wish(3, 1, { Z: 9 })] }), "Z")?.held).toBe(
      (standing(reply, "Z")?.held ?? 0) + 1,
    );
  });
});

describe("what members are told unasked", () => {
  const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

  test("once that they were granted something, however much", async () => {
    const place = open();
    const a = await place.join("a", { X: 2 });
    const b = await place.join("b");
    using _ears = b.listen();
    await b.ask(1, 2, { X: 2 });
    await a.hold("X", 0);
    await turn();
    expect(b.heard).toEqual([{ kind: "granted" }]);
  });

  test("nothing to who never said that it listens: it finds the grant when it makes a statement", async () => {
    const place = open();
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b");
    await b.ask(1, 1, { X: 1 });
    b.listen()[Symbol.dispose]();
    await a.hold("X", 0);
    await turn();
    expect(b.heard).toEqual([]);
    expect((await b.ok()).granted).toEqual([1]);
  });

  test("that others wait: of the first who waits, and of the second, so that the first knows it too", async () => {
    const place = open();
    const members: Member[] = [];
    for (const id of ["a", "b", "c", "d"]) members.push(await place.join(id, id === "a" ? { X: 1 } : {}));
    const [a, b, c, d] = members as [Member, Member, Member, Member];
    for (const member of members) member.listen();
    const recall: Push = { kind: "recall", key: "X" };
    await b.ask(1, 1, { X: 1 });
    await b.ask(2, 1, { X: 1 });
    await turn();
    expect([a, b, c, d].map(({ heard }) => heard.splice(0))).toEqual([[recall], [], [recall], [recall]]);
    await c.ask(1, 1, { X: 1 });
    await turn();
    expect([a, b, c, d].map(({ heard }) => heard.splice(0))).toEqual([[recall], [recall], [], [recall]]);
    await d.ask(1, 1, { X: 1 });
    await turn();
    expect([a, b, c, d].map(({ heard }) => heard.splice(0))).toEqual([[], [], [], []]);
    expect(standing(await a.hold("X", 1), "X")?.contended).toBe(true);
  });

  test("a slot passes by who listened and does not any more; it asks again at its next beat", async () => {
    const place = open();
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b");
    const c = await place.join("c");
    const ears = b.listen();
    await b.ask(1, 1, { X: 1 });
    await c.ask(1, 1, { X: 1 });
    ears[Symbol.dispose]();
    await a.hold("X", 0);
    expect((await c.ok()).granted).toEqual([1]);
    expect((await b.ok()).granted).toEqual([]);
    expect(waiting(place, "X")).toEqual([]);
    await b.ok({ beat: true, asks: [wish(1, 1, { X: 1 })] });
    expect(waiting(place, "X")).toEqual(["b1"]);
  });
});

describe("time", () => {
  test("a slot passes by who was silent for two and a half beats", async () => {
    const place = open({ ttl: TTL });
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b");
    const c = await place.join("c");
    await b.ask(1, 1, { X: 1 });
    for (let step = 0; step < 2; step++) {
      place.wait(STEP);
      await a.ok();
    }
    place.wait(1);
    await c.ask(1, 1, { X: 1 });
    await a.hold("X", 0);
    expect((await c.ok()).granted).toEqual([1]);
  });

  test("who is silent for a ttl is told of as expired, and reaped", async () => {
    const place = open({ ttl: TTL });
    const a = await place.join("a", { X: 2 });
    const b = await place.join("b");
    await b.ask(1, 1, { X: 2 });
    await a.ask(1, 1, { X: 2 });
    for (let step = 0; step < 3; step++) {
      place.wait(STEP);
      expect((await b.ok()).expired).toEqual([]);
    }
    await place.ledger.reap("a");
    expect(totals(place)).toEqual({ X: 2 });
    place.wait(STEP);
    const reply = await b.ok({ members: 0 });
    expect(reply).toMatchObject({ expired: ["a"], members: ["a", "b"] });
    await place.ledger.reap("a");
    await place.ledger.reap("a");
    const after = await b.ok({ members: reply.version });
    expect(after).toMatchObject({ granted: [1], expired: [], members: ["b"] });
    expect(totals(place)).toEqual({ X: 1 });
    expect((await a.state()).status).toBe("unknown");
  });

  test("a jump of the clock lets nobody expire, and nothing goes back", async () => {
    const place = open({ ttl: TTL });
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b");
    for (const jump of [3_600_000, -3_600_000, 3_600_000]) {
      place.wait(jump);
      expect((await b.ok()).expired).toEqual([]);
    }
    await place.ledger.reap("a");
    expect(totals(place)).toEqual({ X: 1 });
    expect((await a.state()).status).toBe("ok");
  });

  test("a grant that its member did not see before it was reaped is given back", async () => {
    const place = open({ ttl: TTL });
    const a = await place.join("a", { X: 1 });
    const b = await place.join("b");
    await b.ask(1, 1, { X: 1 });
    await a.hold("X", 0);
    for (let step = 0; step < 4; step++) {
      place.wait(STEP);
      await a.ok();
    }
    await place.ledger.reap("b");
    expect(totals(place)).toEqual({});
  });

  test("one that may not be new learns first: it believes what is held, and grants nothing", async () => {
    const place = open({ ttl: TTL, isNew: false });
    const a = await place.join("a", { X: 3 });
    const first = await a.ok({ asks: [wish(1, 1, { Y: 9 })] });
    expect(first).toMatchObject({ learning: TTL, granted: [] });
    expect(totals(place)).toEqual({ X: 3 });
    for (let step = 0; step < 3; step++) {
      place.wait(STEP);
      await a.ok();
    }
    expect((await a.ok()).learning).toBe(STEP);
    place.wait(STEP);
    expect(await a.ask(1, 1, { X: 4 })).toEqual([1]);
  });
});

describe("members", () => {
  test("are listed with what they hold, and forgotten when they leave", async () => {
    const place = open({ ttl: TTL });
    await place.join("b", { X: 2 });
    const a = await place.join("a", { X: 1 });
    place.wait(STEP);
    expect(await place.ledger.members()).toEqual([
      { id: "a", label: "host a", silentFor: STEP, holds: new Map([["X", 1]]) },
      { id: "b", label: "host b", silentFor: STEP, holds: new Map([["X", 2]]) },
    ]);
    await a.ok({ leave: true });
    expect((await place.ledger.members()).map(({ id }) => id)).toEqual(["b"]);
    expect(totals(place)).toEqual({ X: 2 });
    expect((await a.state()).status).toBe("unknown");
  });

  test("who leaves gives back what it holds, what it was granted unseen, and its place in the queues", async () => {
    const place = open();
    const a = await place.join("a", { X: 1, Y: 1 });
    const b = await place.join("b");
    const c = await place.join("c");
    await b.ok({ asks: [wish(1, 1, { X: 1 }), wish(2, 1, { Y: 1 })] });
    await c.ask(1, 1, { X: 1 });
    await a.hold("X", 0);
    await b.ok({ leave: true });
    expect((await c.ok()).granted).toEqual([1]);
    expect(waiting(place, "Y")).toEqual([]);
  });
});
