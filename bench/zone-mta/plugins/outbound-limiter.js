// ZoneMTA plugin: a delivery takes a slot of every limit of a Momentum policy before it connects, or goes back into the
// queue.

const net = require("node:net");
const path = require("node:path");
const { createLimiter, loadPolicy, releaseOnClose, watchPolicy } = require("outbound-limiter");

/** How long a delivery waits for a host that is full, and a slot for its delivery to connect, in milliseconds. */
const HOST_WAIT = 5 * 60_000;
const UNUSED = 10_000;
const DIAL = 60_000;

module.exports.title = "OutboundLimiter";

module.exports.init = async (app) => {
  // ZoneMTA sends without waiting for its plugins: the hooks are there at once, and wait for the policy.
  const starting = start(app);
  starting.catch(() => {}); // told by ZoneMTA; until it is right, all mail stays in the queue
  const connections = new Connections(app, starting);
  app.addHook("sender:fetch", (delivery) => connections.fetch(delivery));
  app.addHook("sender:connect", (delivery, options) => connections.connect(delivery, options));
  app.addHook("sender:connection", async (delivery, connection) => connections.use(delivery, connection));
  app.addHook("sender:delivered", async (delivery) => connections.rest(delivery));
  app.addHook("sender:responseError", async (delivery) => connections.forget(delivery));
  module.exports.limiter = await starting;
};

async function start(app) {
  const { policy, cluster } = app.config;
  const file = path.resolve(policy);
  const shared = cluster && { cluster: require("outbound-limiter/redis").redisCluster(app.redis, cluster) };
  const limiter = createLimiter(await loadPolicy(file), shared);
  await watchPolicy(file, limiter, {
    onReload: (read) => app.logger.info(module.exports.title, "%s: in force", read.source),
    onError: (error) => app.logger.error(module.exports.title, "the policy before stays in force: %s", error.message),
  });
  return limiter;
}

class Connections {
  #app;
  #starting;
  /** Leases of deliveries that have not connected yet. */
  #fetched = new WeakMap();
  /** Leases of sockets that no SMTP connection has yet, by their delivery. */
  #dialled = new WeakMap();
  /** Leases of SMTP connections; the connection of a delivery; whose it was last. */
  #leases = new WeakMap();
  #used = new WeakMap();
  #user = new WeakMap();
  /** Connections in ZoneMTA's cache, by what they can be used for. */
  #idle = new Map();

  constructor(app, starting) {
    this.#app = app;
    this.#starting = starting;
  }

  /** Refused here, a delivery goes back into the queue by itself; in sender:connect its whole domain would. */
  async fetch(delivery) {
    if (delivery.http) return;
    const { wait = 1, retry = 30 } = this.#app.config;
    const refusals = delivery.limiterRefusals ?? 0;
    // Too many failed attempts bounce: those that only found no slot are none.
    if (delivery._deferred) delivery._deferred.count -= refusals;
    if (this.#takeIdle(delivery)) return;
    try {
      const limiter = await this.#starting;
      const lease = await limiter.acquire(this.#target(delivery), { timeout: wait * 1000 });
      this.#fetched.set(delivery, lease);
      // It may never connect (another plugin drops it), or much later (throttling): then it waits there.
      setTimeout(() => this.forget(delivery), UNUSED).unref();
    } catch (error) {
      delivery.updates = { ...delivery.updates, limiterRefusals: refusals + 1 };
      delivery.deferTimes = Array.from({ length: (delivery._deferred?.count ?? 0) + 1 }, () => retry * 1000);
      const response = `451 4.3.2 Not sent yet: ${error.message}`;
      throw Object.assign(new Error(response), {
        name: "OutboundLimit",
        response,
        category: "policy",
        temporary: true,
      });
    }
  }

  /** Sets the socket that ZoneMTA uses. An error would put the whole domain off: so always a socket, if a dead one. */
  async connect(delivery, options) {
    try {
      const lease = await this.#leaseFor(delivery, this.#target(delivery, options));
      options.socket = await dial(lease, options);
      this.#dialled.set(delivery, lease);
    } catch (error) {
      const { id, seq, domain } = delivery;
      this.#app.logger.info(module.exports.title, "%s.%s %s[%s]: %s", id, seq, domain, options.host, error.message);
      options.socket = unreachable();
    }
  }

  /** The delivery has a connection: a new one, or one from the cache. */
  use(delivery, connection) {
    const lease = this.#dialled.get(delivery);
    this.#dialled.delete(delivery);
    this.forget(delivery);
    if (lease !== undefined) this.#leases.set(connection, lease);
    else this.#leases.get(connection)?.busy();
    this.#isNotIdle(useOf(delivery), connection);
    this.#used.set(delivery, connection);
    this.#user.set(connection, delivery);
  }

  /** Its connection is in the cache now, and gives way when somebody waits for the slot. */
  rest(delivery) {
    const connection = this.#used.get(delivery);
    const lease = this.#leases.get(connection);
    if (lease === undefined || this.#user.get(connection) !== delivery || isClosing(connection)) return;
    const use = useOf(delivery);
    if (!this.#idle.has(use)) this.#idle.set(use, new Set());
    this.#idle.get(use).add(connection);
    lease.idle(() => {
      connection.quit();
      connection.close(); // ZoneMTA leaves one that closes where it is
    });
    connection.once("end", () => this.#isNotIdle(use, connection));
  }

  /** The lease of a delivery that has not connected. */
  forget(delivery) {
    this.#fetched.get(delivery)?.release();
    this.#fetched.delete(delivery);
  }

  /** Whether there is a connection in the cache for a delivery, which then is for no other. */
  #takeIdle(delivery) {
    const use = useOf(delivery);
    for (const connection of this.#idle.get(use) ?? []) {
      this.#isNotIdle(use, connection);
      if (!isClosing(connection)) return true;
    }
    return false;
  }

  #isNotIdle(use, connection) {
    const others = this.#idle.get(use);
    others?.delete(connection);
    if (others?.size === 0) this.#idle.delete(use);
  }

  async #leaseFor(delivery, target) {
    const held = this.#fetched.get(delivery);
    this.#fetched.delete(delivery);
    if (held !== undefined) {
      if (await held.move(target)) return held;
      held.release();
    }
    return (await this.#starting).acquire(target, { timeout: HOST_WAIT });
  }

  /** Until it connects, neither the host is known nor which of two addresses it leaves from. */
  #target(delivery, { host, localAddress = addressOf(delivery) } = {}) {
    const binding = this.#app.config.bindings?.[localAddress] ?? localAddress;
    return { binding: binding?.replaceAll(":", "-"), domain: delivery.domain, host };
  }
}

function addressOf({ zoneAddress, zoneAddressIPv4, zoneAddressIPv6 }) {
  return (zoneAddress ?? zoneAddressIPv4 ?? zoneAddressIPv6)?.address;
}

/** What a connection of ZoneMTA's cache can be used for. */
function useOf(delivery) {
  return `${addressOf(delivery)} ${delivery.domain}`;
}

/** As ZoneMTA asks it. */
function isClosing(connection) {
  return !connection.connected || connection._closing || connection._destroyed;
}

/** The connection ends the lease, whenever and however it is closed. */
function dial(lease, options) {
  return new Promise((resolve, reject) => {
    try {
      const socket = net.connect(options);
      releaseOnClose(lease, socket);
      socket.on("error", reject);
      const tooLate = setTimeout(() => socket.destroy(new Error("Connection timed out")), DIAL);
      socket.once("connect", () => resolve(socket)).once("connect", () => clearTimeout(tooLate));
    } catch (error) {
      lease.release(); // a port or an address that there cannot be
      reject(error);
    }
  });
}

/** A socket that times out at once: ZoneMTA takes the next MX host after that, and the next host only after that. */
function unreachable() {
  const socket = new net.Socket();
  socket.on("newListener", (event) => {
    if (event === "timeout") setImmediate(() => socket.emit("timeout"));
  });
  return socket;
}
