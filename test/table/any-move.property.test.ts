// The laws with requests for any of several targets, leases that move and leases that are idle, in any order with all
// other operations: what is held is what was admitted, no slot idles, nobody is answered twice.
import fc from "fast-check";
import { describe, it } from "vitest";
import { MovingPlay, type Step } from "./moving.js";
import { changing, world } from "./worlds.js";

const scale: number = Number(process.env["FUZZ_RUNS"] ?? 1000) / 1000;
const runs = (usual: number): { numRuns: number } => ({ numRuns: Math.max(1, Math.round(usual * scale)) });

const index = fc.nat({ max: 1_000 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom("acquire" as const, "try" as const), at: index }) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("any" as const), at: fc.array(index, { minLength: 1, maxLength: 4 }) }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("release" as const), at: index }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("idle" as const, "busy" as const), at: index }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("abort" as const), at: index }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("move" as const), at: index, to: index }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("update" as const), at: index }) },
);

describe("any of several targets, and leases that move", () => {
  it("keep the laws in any order of operations", { timeout: 600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(world, fc.array(step, { maxLength: 60 }), async (world, steps) => {
        await new MovingPlay([world]).play(steps);
      }),
      runs(300),
    );
  });

  it("keep the laws when the policy changes", { timeout: 600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(changing, fc.array(step, { maxLength: 60 }), async (worlds, steps) => {
        await new MovingPlay(worlds).play(steps);
      }),
      runs(200),
    );
  });
});
