// Cluster: what a user passes to createLimiter, and what a limiter finds in it.

import type { Cluster, ClusterMember } from "../types.js";
import type { Engine } from "./engine.js";

/** What becomes of new connections while the engine does not answer. */
export type WhenDown = "refuse" | "share" | "admit";

export interface ClusterOptions {
  readonly whenDown: WhenDown;
  /** Whether a blocked event loop ends the process before others get its slots. */
  readonly watchdog: boolean;
}

/** What a limiter needs of a cluster. For all copies of this package in a process: the entry of Redis may be another one. */
const JOIN: unique symbol = Symbol.for("outbound-limiter.cluster") as never;

interface Joinable {
  readonly [JOIN]?: ClusterOptions & { readonly engine: Engine };
}

/** A cluster on an engine. */
export function makeCluster(kind: string, engine: Engine, options: ClusterOptions): Cluster {
  const cluster: Cluster & Joinable = {
    kind,
    async members(): Promise<readonly ClusterMember[]> {
      const members = await engine.members();
      return members.map(({ holds, ...member }) => ({ ...member, holds: Object.fromEntries(holds) }));
    },
    [JOIN]: { engine, ...options },
  };
  return Object.freeze(cluster);
}

/**
 * What `makeCluster` was given.
 *
 * @throws {TypeError} not a cluster
 */
export function clusterParts(cluster: Cluster): ClusterOptions & { readonly engine: Engine } {
  const parts = (cluster as Joinable | null)?.[JOIN];
  if (parts === undefined) {
    throw new TypeError("Limiter option cluster must come from redisCluster or memoryCluster");
  }
  return parts;
}
