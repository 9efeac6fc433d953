// memoryCluster: limiters of one process that share their cluster limits.

import type { Cluster } from "../types.js";
import { makeCluster } from "./cluster.js";
import { Ledger } from "./ledger.js";

/**
 * A cluster of limiters within one process: for tests, and for trying out what a policy's `cluster_*` limits do. Nothing
 * can fail between them, so no lease is ever lost.
 *
 * @example
 * const cluster = memoryCluster();
 * const policy = parsePolicy("cluster_server_max_outbound_connections = 1");
 * const one = createLimiter(policy, { cluster });
 * const other = createLimiter(policy, { cluster });
 * const lease = await one.acquire({ domain: "gmail.com" });
 * const next = other.acquire({ domain: "orange.fr" }); // waits
 * lease.release();
 * await next;
 */
export function memoryCluster(): Cluster {
  return makeCluster("memory", new Ledger(), { whenDown: "refuse", watchdog: false });
}
