// Agenda: the order of events, and where its clock stands.

import fc from "fast-check";
import { expect, it } from "vitest";
import { Agenda } from "../../src/simulate/agenda.js";

it("runs events by their moment, and those of one moment as they were planned", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 })), (moments) => {
      const agenda = new Agenda();
      const ran: [number, number][] = [];
      for (const [index, moment] of moments.entries()) agenda.at(moment, () => ran.push([agenda.now(), index]));
      while (agenda.next(Infinity));
      const sorted = moments.map((moment, index): [number, number] => [moment, index]).sort(([a], [b]) => a - b);
      expect(ran).toEqual(sorted);
    }),
  );
});

it("runs what an event plans for the same moment after what was planned before", () => {
  const agenda = new Agenda();
  const ran: string[] = [];
  agenda.at(5, () => {
    ran.push("first");
    agenda.after(0, () => ran.push("third"));
  });
  agenda.at(5, () => ran.push("second"));
  while (agenda.next(Infinity));
  expect(ran).toEqual(["first", "second", "third"]);
});

it("does not run what was taken back, nor count it as an event", () => {
  const agenda = new Agenda();
  let ran = 0;
  agenda.after(1, () => ran++)[Symbol.dispose]();
  expect(agenda.next(Infinity)).toBe(false);
  expect([ran, agenda.now()]).toEqual([0, 0]);
});

it("stops at the end: what is later stays, and the clock stands there", () => {
  const agenda = new Agenda();
  agenda.after(10, () => {});
  expect([agenda.next(5), agenda.now()]).toEqual([false, 5]);
  expect([agenda.next(10), agenda.now()]).toEqual([true, 10]);
});
