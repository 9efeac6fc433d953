// Haraka plugin of the tests: routes mail without DNS, sends what it is told to, tells what the limiter holds.

const fs = require("node:fs");
const path = require("node:path");
const constants = require("haraka-constants");
const outbound = require("./outbound");
const plugins = require("./plugins");

const tallies = { bounced: [], deferred: 0 };
let routes = {};

exports.register = function () {
  routes = JSON.parse(fs.readFileSync(path.join(process.env.HARAKA, "config/routes.json"), "utf8"));
  process.on("disconnect", () => process.exit()); // whoever started it has ended
  process.on("message", ({ ask, rcpts, from, id }) => {
    if (ask === "send") for (const rcpt of rcpts) outbound.send_email(from, rcpt, "Subject: test\n\ntest\n", () => {});
    if (ask === "state") process.send({ id, ...tallies, queue: outbound.get_stats(), ...this.held() });
  });
  const { init_queue } = outbound;
  outbound.init_queue = async () => {
    await init_queue(); // it removes mail that is half written
    process.send({ id: "ready" });
  };
};

exports.held = () => {
  const { limiter } = plugins.registered_plugins.outbound_limiter;
  return { snapshot: limiter.snapshot(), leases: [...limiter.leases()] };
};

exports.hook_get_mx = (next, delivery, domain) => {
  const bind = routes.sources[delivery.todo.mail_from.user];
  next(
    constants.ok,
    routes.hosts[domain].map((host) => ({ ...host, bind })),
  );
};

exports.hook_bounce = (next, delivery, error) => {
  tallies.bounced.push({ rcpt: delivery.todo.rcpt_to[0].address, error: error.message });
  next(constants.ok); // no mail to the sender
};

exports.hook_deferred = (next) => {
  tallies.deferred++;
  next();
};
