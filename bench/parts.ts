// The parts of the bench: what each measures, and why it misses a goal where it does.

import { clusterEngine } from "./cluster/engine.js";
import { clusterFaults } from "./cluster/faults.js";
import { clusterOwnCost } from "./cluster/own.js";
import { clusterPeers } from "./cluster/peers.js";
import { clusterContended, clusterHandOver, clusterTurns } from "./cluster/waiting.js";
import { allocation, awaitCost, claimsCost, hotCost, wideCost, zipfCost } from "./costs.js";
import { flood } from "./fairness/flood.js";
import { twoBusyLimits } from "./fairness/two-busy-limits.js";
import type { Bench, Outcome } from "./measure.js";
import { memory } from "./memory.js";
import { newNames } from "./names.js";
import { drain, timeoutsAndSignals } from "./queueing.js";
import { againstPeers } from "./versus.js";
import { crossBlockedCost, moves, releaseCost } from "./waiting.js";

export interface Part {
  readonly title: string;
  /** How it is measured, for a reader of the results. */
  readonly how: string;
  /** Why a goal is missed; shown only where one is. */
  readonly missed?: string;
  readonly run: (bench: Bench) => Promise<Outcome>;
}

const U = "U is one `Map.get` of the tuple's prebuilt string and one field read, over the same stream.";
const REPLAYED =
  "Each release is timed. The same is done three times from the start, move for move: the least of the three is what the release itself costs, without interruptions by the machine and the garbage collector.";

const BESIDE_U =
  "the plan is found by two look-ups and not one, five counters are checked, raised and lowered, and the lease is made, put on the roll of leases held and taken off it.";
const WIDE = `${BESIDE_U} What belongs to one target lies in a dozen objects (see Memory), an entry of U in three: over many targets most of the time is waiting for memory.`;
const INTERRUPTED =
  "the slowest thousandth of what is timed on a machine with others is the machine's interruptions; the least of three runs is without them.";

const INTERRUPTED_TURNS =
  "the processes of a fleet and the server share the cores of this machine, and wait for them as well.";
const ONE_SERVER = "One Redis 7 on loopback, each process with a connection and a limiter of its own.";

export const PARTS: Readonly<Record<string, Part>> = {
  hot: { title: "One tuple, five claims", how: `\`tryAcquire\` and \`release\`. ${U}`, missed: BESIDE_U, run: hotCost },
  wide: {
    title: "300 domains × 5 bindings, five claims",
    how: `\`tryAcquire\` and \`release\`, all tuples as often. ${U}`,
    missed: WIDE,
    run: wideCost,
  },
  zipf: {
    title: "10,000 domains × 50 bindings × 5 hosts, five claims",
    how: `\`tryAcquire\` and \`release\`, domains by Zipf's law: 131,072 requests for some 75,000 tuples. ${U}`,
    missed: WIDE,
    run: zipfCost,
  },
  claims: { title: "From three to eight claims", how: "`tryAcquire` and `release` over 300 × 5.", run: claimsCost },
  await: {
    title: "`await acquire`, room everywhere",
    how: "`await acquire` and `release` of one tuple, beside `await` of one resolved promise.",
    missed:
      "beside the `await`, of which the table says what it costs with a new promise, there is what the part `hot` measures.",
    run: awaitCost,
  },
  peers: {
    title: "Beside other libraries",
    how: [
      "Each library is composed by hand over the same five limits, and first proved to grant what a naive table grants.",
      "CPU time of one connection after the other, in terms of ours.",
      'Their semaphores are found by five strings built for each connection; "no keys" finds them by the target object instead, and keeps both for ever.',
      "With the limits full, all ask at once, and all that are granted end together, in rounds: the fewer, the better the slots are used. The compositions keep their slots of some limits while they wait for the others, and take no turns.",
      "rate-limiter-flexible cannot wait.",
    ].join(" "),
    missed:
      "the parts `hot`, `zipf` and `await` say why ours costs what it costs. The compositions are the cheapest we could write, and never forget a key.",
    run: againstPeers,
  },
  new: {
    title: "A tuple not seen before",
    how: `\`tryAcquire\` and \`release\` of new names under five claims, while older ones are forgotten. ${U}`,
    missed:
      "a new target is checked, its keys are built as strings, its plan and its counters are made, and an older plan is forgotten.",
    run: newNames,
  },
  bytes: {
    title: "Memory",
    how: "Growth of the live heap after garbage collection, 50,000 of each.",
    missed:
      "a counter has a key that can be read, and counts who waits for it; a request has a promise, the two functions that V8 makes for it, and its places in the line.",
    run: memory,
  },
  allocation: {
    title: "Allocation",
    how: "Growth of the young generation over 500 operations on one tuple.",
    run: allocation,
  },
  release: {
    title: "Release, with 1,000 to 1,000,000 waiting",
    how: `Three saturated hot domains under a full server of 1,000: four requests in five are for them, the others for 10,000 domains. Whoever is granted asks again. ${REPLAYED}`,
    missed: `with 1,000 waiting there are few queues, and all of them stay in the caches of the processor. The p99.9: ${INTERRUPTED}`,
    run: releaseCost,
  },
  cross: {
    title: "Release, cross-blocked",
    how: `100 bindings × 100 domains, one connection each, 100,000 waiting at random: whoever gets one of the two limits lacks the other. For each that goes another one comes. ${REPLAYED}`,
    missed: `a release may try 64 queues. ${INTERRUPTED}`,
    run: crossBlockedCost,
  },
  moves: {
    title: "Moves in one call",
    how: "Queues tried in one `release`, cross-blocked, counted by V8's own call counts of the functions that admit and pass over.",
    run: moves,
  },
  drain: {
    title: "Enqueue and drain",
    how: "100,000 requests for one slot, each released when granted, beside a bare list of promises.",
    missed:
      "most of it is the garbage collector, which copies what waits: a request and its lease are several times what a promise is.",
    run: drain,
  },
  timers: {
    title: "Timeouts and signals",
    how: "10,000 waiting requests, queued and drained; what they cost more with a timeout each, and with one signal for all.",
    run: timeoutsAndSignals,
  },
  flood: {
    title: "A flood to three domains",
    how: 'Virtual clock. 20,000 requests to three domains at once, then 5,000 within a minute to 1,000 small domains, from 5 bindings, over one server of 200. "One list" admits the first that fits; "each request parked alone" keeps it in the line of a limit that is full for it, which is here the server\'s.',
    run: flood,
  },
  starving: {
    title: "Two busy limits",
    how: "100,000 requests wait for a binding or for a domain, both full, and one for both. Releases until it is admitted; a line that has not done so after 10,000 is given up.",
    run: twoBusyLimits,
  },
  "cluster-peers": {
    title: "Over processes, beside other libraries",
    how: [
      "`acquire` and release under four limits (binding and domain, domain, binding, all), 32 at a time in each process.",
      `${ONE_SERVER} Scripts are counted by the server. Each is first proved to reach its limits and to exceed none.`,
      "redis-semaphore takes the four in turn, or all with its MultiSemaphore; bottleneck has four limiters in a chain.",
    ].join(" "),
    missed:
      "without spare slots each connection is asked for and given back: the server and this process share one core or two with all others, and the statements of a turn are one script.",
    run: clusterPeers,
  },
  "cluster-own": {
    title: "What a cluster costs where it is not asked",
    how: "`await acquire` and `release` of one target whose spare slots are at hand, beside the same policy without a cluster.",
    missed:
      "a lease that a cluster shares is counted for the watchdog, and the system's clock is asked whether its slots are still good: the limiter alone asks it once a turn.",
    run: clusterOwnCost,
  },
  "cluster-contended": {
    title: "Scripts a connection, contended",
    how: `Four processes, connections of 5 ms on average. ${ONE_SERVER}`,
    missed: "a process that is handed a slot by a message makes a statement to learn of it, and one to give it back.",
    run: clusterContended,
  },
  "cluster-turns": {
    title: "Ten processes for three slots",
    how: `Each has two requests at any time, connections of 50 ms. ${ONE_SERVER}`,
    missed: INTERRUPTED_TURNS,
    run: clusterTurns,
  },
  "cluster-handover": {
    title: "From one process to another",
    how: "One slot, and two processes that take turns. Then with a client that hears no messages.",
    missed: INTERRUPTED_TURNS,
    run: clusterHandOver,
  },
  "cluster-engine": {
    title: "What the cluster costs the server",
    how: "`MEMORY USAGE` of all keys; scripts while nothing happens, with the default `ttl` of 15 s; keys that are left.",
    missed:
      "with three connections of each binding to each domain in each process, most of it is the names of the counters, which stand there once for all and once for each process, so that an operator can read them.",
    run: clusterEngine,
  },
  "cluster-faults": {
    title: "Crash, restart and outage",
    how: "With a `ttl` of 2 s. That no fault lets in too many is shown by `npx vitest run test/chaos` (G1), and that it could be seen by `npx vitest run test/chaos/controls.test.ts` (G2).",
    missed: INTERRUPTED_TURNS,
    run: clusterFaults,
  },
};
