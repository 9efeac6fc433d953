// Haraka plugin: a delivery takes a slot of every limit of a Momentum policy before it connects, or waits.

const { AsyncLocalStorage } = require("node:async_hooks");
const net = require("node:net");
const path = require("node:path");
const constants = require("haraka-constants");
const { createLimiter, loadPolicy, releaseOnClose, watchPolicy } = require("outbound-limiter");

const pool = require("./outbound/client_pool");
const HMailItem = require("./outbound/hmail");
const tls_socket = require("./tls_socket");

/** Which delivery asks for a connection: get_client is told of the MX only. */
const deliveries = new AsyncLocalStorage();
/** Leases without a connection, for the MX that their delivery tries next. */
const between = new WeakMap();

exports.register = function () {
  this.load_settings();
  this.register_hook("init_master", "start");
  this.register_hook("init_child", "start");
  limitDeliveries(this);
};

exports.load_settings = function () {
  const booleans = ["-redis.isNew", "+redis.watchdog"];
  const ini = this.config.get("outbound_limiter.ini", { booleans }, () => this.load_settings());
  const { policy = "outbound_limiter.conf", wait = 60, retry = 30 } = ini.main;
  this.settings = { policy, wait, retry, bindings: ini.bindings ?? {}, redis: ini.redis };
};

/** Before the queue is loaded. A policy with mistakes keeps Haraka from starting. */
exports.start = async function (next, server) {
  if (server.cluster?.isMaster) return next(); // its workers deliver, and start each for itself
  const file = path.resolve(this.config.overrides_path ?? this.config.root_path, this.settings.policy);
  try {
    const policy = await loadPolicy(file);
    this.limiter = createLimiter(policy, { cluster: this.open_cluster() });
    this.watching = await watchPolicy(file, this.limiter, {
      onReload: (read) => this.tell(`${read.source}: in force`, read),
      onError: (error) => this.logerror(`the policy before stays in force: ${error.message}`),
    });
    this.tell(`${file}: in force`, policy);
    next();
  } catch (error) {
    next(constants.deny, error.message);
  }
};

exports.tell = function (what, policy) {
  this.lognotice(what);
  for (const warning of policy.warnings) this.logwarn(`${policy.source}: ${warning.message}`);
};

/** The limits of a cluster are shared through the Redis of the section [redis]. Haraka brings the client. */
exports.open_cluster = function () {
  const { url, ...options } = this.settings.redis;
  if (url === undefined) return undefined;
  this.redis = require("redis").createClient({ url });
  this.redis.on("error", (error) => this.logerror(`redis: ${error.message}`)); // it connects again by itself
  this.redis.connect().catch(() => {}); // told to the line above
  return require("outbound-limiter/redis").redisCluster(this.redis, options);
};

exports.shutdown = async function () {
  this.watching?.close();
  await this.limiter?.close(); // mail that waits goes back into the queue; connections may end
  this.redis?.destroy();
};

/** What a delivery is about to connect to. It keeps the MX, which is not for the limiter. */
exports.target_of = function (delivery, mx) {
  const bind = mx.bind ?? delivery.todo.notes.outbound_ip;
  const binding = this.settings.bindings[bind] ?? bind;
  // Haraka resolves the names of MX hosts first, and keeps them beside the address.
  const host = net.isIP(mx.exchange) && mx.from_dns ? mx.from_dns : mx.exchange;
  return { binding: binding && String(binding).replaceAll(":", "-"), domain: delivery.todo.domain, host, mx };
};

/**
 * A lease for a connection to an MX, or for one of the others that the domain prefers no less: then that is tried
 * first. Undefined if this attempt has ended.
 */
exports.lease_for = async function (delivery, mx) {
  const target = this.target_of(delivery, mx);
  const held = between.get(delivery);
  between.delete(delivery);
  try {
    if (held !== undefined) {
      const isRight = held.target.mx === mx || (await held.move(target));
      if (isRight && !held.lost.aborted) return held;
      held.release();
    }
    const targets = new Map([[target.host, target]]);
    for (const other of delivery.mxlist) {
      if (other.priority !== mx.priority) continue;
      const another = this.target_of(delivery, other);
      if (!targets.has(another.host)) targets.set(another.host, another);
    }
    const lease = await this.limiter.acquireAny([...targets.values()], { timeout: this.settings.wait * 1000 });
    if (lease.target.mx === mx) return lease;
    between.set(delivery, lease);
    const later = delivery.mxlist.filter((other) => other !== lease.target.mx);
    delivery.mxlist = [lease.target.mx, mx, ...later];
    delivery.try_deliver();
  } catch (error) {
    held?.release();
    this.put_back(delivery, error);
  }
};

exports.put_back = function (delivery, error) {
  if (error.name === "TypeError") return delivery.temp_fail(`outbound_limiter: ${error.message}`); // a name it cannot be
  delivery.lognotice(`outbound_limiter: ${error.message}, tried again in ${this.settings.retry} s`);
  // As from a plugin on send_email. Not temp_fail: that counts as a failed attempt, and too many of those bounce.
  delivery.send_email_respond(constants.delay, this.settings.retry);
};

/** There is no hook around a connection, so what makes it is wrapped. */
function limitDeliveries(plugin) {
  const { get_client } = pool;
  const { try_deliver } = HMailItem.prototype;

  HMailItem.prototype.try_deliver = async function () {
    const lease = between.get(this);
    await deliveries.run(this, () => try_deliver.call(this));
    if (lease === undefined || between.get(this) !== lease) return;
    between.delete(this); // there was no other MX to try
    lease.release();
  };

  pool.get_client = async (mx, callback) => {
    const delivery = deliveries.getStore();
    if (delivery === undefined) return get_client(mx, callback); // another plugin's own connection
    const lease = await plugin.lease_for(delivery, mx);
    if (lease === undefined) return;
    const failed = (message) => {
      between.set(delivery, lease);
      callback(message, null);
    };
    try {
      const connection = new Connection(lease, () =>
        get_client(mx, (error, socket) => {
          if (!error) return callback(null, socket);
          connection.passOn(); // closed already: what it holds of the domain's limits is for the next MX
          failed(error);
        }),
      );
    } catch (error) {
      failed(error.message); // a port or an address that there cannot be
    }
  };
}

/** A connection with its lease, from the dial until it is closed, whatever becomes of Haraka's socket around it. */
class Connection {
  #lease;

  constructor(lease, dial) {
    this.#lease = lease;
    const socket = dialled(dial);
    // Haraka's socket loses its listeners when it is given back; the one inside only when TLS begins.
    const tcp = socket.targetsocket;
    const listen = () => releaseOnClose({ release: () => this.#lease?.release() }, tcp);
    listen();
    const { upgrade } = socket;
    socket.upgrade = (...args) => {
      upgrade(...args);
      listen();
    };
    const end = () => tcp.destroy(tcp.connecting ? lease.lost.reason : undefined);
    lease.lost.addEventListener("abort", end);
    if (lease.lost.aborted) end();
    // Once its mail is done, Haraka waits without limit for the receiver to close, and would keep the slot as long.
    tcp.on("timeout", () => setImmediate(() => tcp.destroy()));
  }

  passOn() {
    this.#lease = undefined;
  }
}

/** The socket that Haraka's get_client makes. */
function dialled(dial) {
  const { connect } = tls_socket;
  let socket;
  tls_socket.connect = (...args) => {
    socket = connect(...args);
    return socket;
  };
  try {
    dial();
  } finally {
    tls_socket.connect = connect;
  }
  return socket;
}
