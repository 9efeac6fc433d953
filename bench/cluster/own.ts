// What a cluster adds to the limiter where it holds spare slots: the same policy with it and without.

import { Redis } from "ioredis";
import type { redisCluster } from "../../src/redis.js";
import { startRedis } from "../../test/redis/server.js";
import { type Bench, interleave, medianFigure, type Outcome, turn, type Variant } from "../measure.js";
import { policyOf, ROOMY, targetsOf } from "./limits.js";
import { redisEntry } from "./senders.js";

const ALONE = "in the process alone";

export async function clusterOwnCost(bench: Bench): Promise<Outcome> {
  const { createLimiter, definePolicy } = bench.library;
  const entry = (await import(redisEntry(bench.url))) as { readonly redisCluster: typeof redisCluster };
  await using server = await startRedis();
  const client = new Redis(server.url);
  const policy = definePolicy(policyOf("one", ROOMY));
  const target = targetsOf("one", 0)();
  const clustered = createLimiter(policy, { cluster: entry.redisCluster(client, { prefix: "bench", isNew: true }) });
  // With spare slots from here on.
  (await clustered.acquire(target)).release();
  const variants = [
    { name: ALONE, limiter: createLimiter(policy) },
    { name: "in the cluster", limiter: clustered },
  ].map(({ name, limiter }): Variant => {
    const run = async (ops: number): Promise<void> => {
      for (let done = 0; done < ops; done++) {
        (await limiter.acquire(target)).release();
        // For the signs of life.
        if (done % 1_000 === 999) await turn();
      }
    };
    return { name, run };
  });
  const measured = await interleave(variants, bench.quick ? 5 : 15, bench.quick ? 10 : 100);
  await clustered.close();
  client.disconnect();
  return {
    figures: [
      medianFigure(
        "G5: await acquire + release, in the cluster",
        measured.ratios("in the cluster", ALONE),
        `× ${ALONE}`,
        { most: 1.2 },
      ),
      measured.figure("await acquire + release, in the cluster", "in the cluster"),
      measured.figure(`await acquire + release, ${ALONE}`, ALONE),
    ],
  };
}
