// redisCluster keeps the contract of a cluster: through every library, on one server and on a Redis Cluster of three nodes.
import { afterAll, beforeAll } from "vitest";
import { redisCluster } from "../../src/redis.js";
import { LIBRARIES, type Opened } from "../redis/libraries.js";
import { describeRedis, describeServer, openRedis, type RedisNodes, startCluster } from "../redis/server.js";
import { describeContract, type Engine } from "./contract.js";

let spaces = 0;

/** A client of its own for each limiter, and a name space of its own for each test. */
class Clients implements Engine, Disposable {
  readonly #open: () => Promise<Opened>;
  readonly #opened: Opened[] = [];
  #prefix = "";

  constructor(open: () => Promise<Opened>) {
    this.#open = open;
  }

  async clusters(count: number): ReturnType<Engine["clusters"]> {
    // A single one looks at those that were made before.
    if (count > 1) this.#prefix = `contract-${process.pid}-${++spaces}`;
    const clients = await Promise.all(Array.from({ length: count }, this.#open));
    this.#opened.push(...clients);
    const options = { prefix: this.#prefix, isNew: true, ttl: 5_000, watchdog: false };
    return clients.map(({ client }) => redisCluster(client, options));
  }

  [Symbol.dispose](): void {
    for (const client of this.#opened.splice(0)) client[Symbol.dispose]();
  }
}

for (const { name, open, openCluster } of LIBRARIES) {
  describeRedis(`${name}, one server`, () => {
    let server: Awaited<ReturnType<typeof openRedis>>;
    let clients: Clients;
    beforeAll(async () => {
      server = await openRedis();
      clients = new Clients(() => open(server.url));
    });
    afterAll(async () => {
      clients[Symbol.dispose]();
      await server[Symbol.asyncDispose]();
    });
    describeContract(name, () => clients);
  });

  describeServer(`${name}, three nodes`, () => {
    let nodes: RedisNodes;
    let clients: Clients;
    beforeAll(async () => {
      nodes = await startCluster();
      clients = new Clients(() => openCluster(nodes.nodes.map(({ url }) => url)));
    }, 30_000);
    afterAll(async () => {
      clients[Symbol.dispose]();
      await nodes[Symbol.asyncDispose]();
    });
    describeContract(`${name} on three nodes`, () => clients);
  });
}
