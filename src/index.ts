// The public surface; re-exports only.

export { memoryCluster } from "./cluster/memory.js";
export {
  AcquireTimeoutError,
  type AnyLimiterError,
  ClusterError,
  isLimiterError,
  LeaseLostError,
  LimiterClosedError,
  LimiterError,
  type LimiterErrorCode,
  PolicyError,
  QueueFullError,
} from "./errors.js";
export { createLimiter } from "./limiter.js";
export { definePolicy } from "./policy/define.js";
export { loadPolicy } from "./policy/load.js";
export { parsePolicy } from "./policy/parse.js";
export { releaseOnClose } from "./socket.js";
export type {
  AcquireOptions,
  Clock,
  Cluster,
  ClusterMember,
  ContainerInput,
  CounterState,
  ExplainedLimit,
  Explanation,
  Lease,
  LeaseInfo,
  Limiter,
  LimiterOptions,
  LimitOption,
  Limits,
  LocalLimiter,
  Milliseconds,
  Observer,
  ParseOptions,
  Policy,
  PolicyInput,
  PolicyIssue,
  PolicyWatch,
  Snapshot,
  Target,
  WatchOptions,
} from "./types.js";
export { watchPolicy } from "./watch.js";
