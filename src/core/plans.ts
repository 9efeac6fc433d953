// The plans of the targets seen last: found by their names as given, without building a string.

import { DEFAULT, type Names, type PolicyData, type Scope } from "../policy/policy.js";
import type { Target } from "../types.js";
import type { Counters } from "./counters.js";
import type { Matcher } from "./match.js";
import { Plan } from "./plan.js";
import { type Claim, forName, resolve, scopesOf } from "./resolve.js";
import { type NormalTarget, normalTarget } from "./target.js";

/** The plans of one binding in one group, and what they have in common. */
interface Frame {
  readonly binding: string;
  readonly group: string;
  /** By domain: the plan last asked for; its other hosts are behind it. */
  readonly plans: Map<string, DomainPlans>;
  /** Claims of a target that falls into no `domain` and no `host` stanza; most do. */
  readonly plain: readonly Claim[];
  readonly domains: readonly Names[];
  readonly hosts: readonly Names[];
}

interface DomainPlans {
  last: Plan;
  /** All of them by host, once there is more than one. */
  hosts: Map<string | undefined, Plan> | undefined;
}

/** Plans looked at to find one to forget, for each new one. */
const MOST_LOOKS = 8;

/**
 * Remembers plans, at most as many as its size and those that something holds or waits for. INVARIANT: one target has
 * one plan; a plan in use is never forgotten, so no target gets a second queue.
 */
export class Plans {
  readonly #policy: PolicyData;
  readonly #counters: Counters;
  readonly #matcher: Matcher;
  readonly #size: number;
  /** By binding: the frame of the group that the policy, or the default, has it in. */
  readonly #frames = new Map<string, Frame>();
  /** Of bindings the policy does not mention, in groups that only their callers name. */
  readonly #otherGroups = new Map<string, Frame>();
  /** Walked round and round: what was not asked for since the last round is forgotten. */
  readonly #clock: Plan[] = [];
  #hand = 0;

  constructor(policy: PolicyData, counters: Counters, matcher: Matcher, size: number) {
    this.#policy = policy;
    this.#counters = counters;
    this.#matcher = matcher;
    this.#size = size;
    matcher.prepare(policy);
  }

  /**
   * The plan of a target.
   *
   * @throws {TypeError} malformed, or its group contradicts the policy
   */
  of(target: Target): Plan {
    return this.#seen(target) ?? this.ofNormal(normalTarget(target, this.#policy));
  }

  /** The plan of a target whose names are in their normal form as they were given, if it was seen before. */
  #seen(target: Target): Plan | undefined {
    const frame = this.#frames.get(target?.binding ?? DEFAULT);
    // Of what is no object at all, `normalTarget` says so.
    if (frame === undefined || !target) return undefined;
    if (target.bindingGroup !== undefined && target.bindingGroup !== frame.group) return undefined;
    return find(frame, target.domain, target.host);
  }

  ofNormal(target: NormalTarget): Plan {
    const known = find(this.#frame(target), target.domain, target.host);
    if (known !== undefined) return known;
    // First make room: that may forget a frame that has become empty, and this one might be it.
    this.#makeRoom();
    return this.#add(this.#frame(target), target);
  }

  #frame({ binding, group }: NormalTarget): Frame {
    const isUsual = group === (this.#policy.groupOf.get(binding) ?? DEFAULT);
    const frames = isUsual ? this.#frames : this.#otherGroups;
    const key = isUsual ? binding : `${group} ${binding}`;
    let frame = frames.get(key);
    if (frame === undefined) {
      frame = this.#newFrame(binding, group);
      frames.set(key, frame);
    }
    return frame;
  }

  #newFrame(binding: string, group: string): Frame {
    const { root } = this.#policy;
    const within = root.groups.get(group);
    const containers = [within?.bindings.get(binding), root.bindings.get(binding), within, root];
    const written = (names: (container: Scope) => Names): Names[] =>
      containers.flatMap((container) => {
        const found = container === undefined ? undefined : names(container);
        return found === undefined || found.literals.size + found.patterns.size === 0 ? [] : [found];
      });
    const nowhere: NormalTarget = { binding, group, domain: "", host: undefined };
    const plain = resolve(scopesOf(this.#policy, nowhere, this.#matcher));
    return {
      binding,
      group,
      plans: new Map(),
      plain,
      domains: written(({ domains }) => domains),
      hosts: written(({ hosts }) => hosts),
    };
  }

  #add(frame: Frame, target: NormalTarget): Plan {
    const counters = this.#claims(frame, target).map((claim) => this.#counters.refer(claim));
    const plan = new Plan(target, [
      ...counters.filter(({ ceiling, remote }) => ceiling === 0 && !remote),
      ...counters.filter(({ ceiling }) => ceiling > 0),
      ...counters.filter(({ remote }) => remote),
    ]);
    const plans = frame.plans.get(target.domain);
    if (plans === undefined) frame.plans.set(target.domain, { last: plan, hosts: undefined });
    else {
      plans.hosts ??= new Map([[plans.last.target.host, plans.last]]);
      plans.hosts.set(target.host, plan);
    }
    this.#clock.push(plan);
    return plan;
  }

  #claims(frame: Frame, target: NormalTarget): readonly Claim[] {
    const { domain, host } = target;
    const falls = (names: Names, name: string): boolean => this.#matcher.hasStanza(names, name);
    const isPlain =
      !frame.domains.some((names) => falls(names, domain)) &&
      (host === undefined || !frame.hosts.some((names) => falls(names, host)));
    return isPlain
      ? frame.plain.map((claim) => forName(claim, target))
      : resolve(scopesOf(this.#policy, target, this.#matcher));
  }

  #makeRoom(): void {
    for (let looks = 0; this.#clock.length >= this.#size && looks < MOST_LOOKS; looks++) {
      if (this.#hand >= this.#clock.length) this.#hand = 0;
      const plan = this.#clock[this.#hand] as Plan;
      if (plan.recent || plan.pair.inUse > 0 || plan.pair.wanted > 0) {
        plan.recent = false;
        this.#hand++;
      } else {
        const last = this.#clock.pop() as Plan;
        if (last !== plan) this.#clock[this.#hand] = last;
        this.#forget(plan);
      }
    }
  }

  #forget(plan: Plan): void {
    const frame = this.#frame(plan.target);
    const { domain, host } = plan.target;
    const plans = frame.plans.get(domain);
    plans?.hosts?.delete(host);
    const [other] = plans?.hosts?.values() ?? [];
    if (plans === undefined || other === undefined) frame.plans.delete(domain);
    else if (plans.last === plan) plans.last = other;
    for (const counter of plan.counters) this.#counters.release(counter);
    if (frame.plans.size > 0) return;
    if (!this.#otherGroups.delete(`${frame.group} ${frame.binding}`)) this.#frames.delete(frame.binding);
  }
}

function find(frame: Frame, domain: string, host: string | undefined): Plan | undefined {
  const plans = frame.plans.get(domain);
  if (plans === undefined) return undefined;
  let plan: Plan | undefined = plans.last;
  if (plan.target.host !== host) {
    plan = plans.hosts?.get(host);
    if (plan === undefined) return undefined;
    plans.last = plan;
  }
  plan.recent = true;
  return plan;
}
