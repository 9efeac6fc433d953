// memoryCluster keeps the contract of a cluster.
import { memoryCluster } from "../../src/index.js";
import { describeContract } from "./contract.js";

let cluster = memoryCluster();

describeContract("in memory", () => ({
  // Each limiter is asked for anew, and all of one test get the same.
  async clusters(count) {
    if (count > 1) cluster = memoryCluster();
    return Array.from({ length: count }, () => cluster);
  },
}));
