// The types of policies, as text and as objects.

/** How to read a policy text. */
export interface ParseOptions {
  /**
   * The name shown in messages, usually a file name.
   * @default "policy"
   */
  readonly source?: string;
  /**
   * What to do with options and stanzas that are not ours. `"ignore"` reads a whole `ecelerity.conf`: each one becomes
   * a warning, but a near miss of one of our own names is still an error.
   * @default "error"
   */
  readonly unknown?: "error" | "ignore";
}

/** The seven options of Momentum that this library enforces. README, "What each limit counts", has one row for each. */
export type LimitOption =
  | "max_outbound_connections"
  | "scope_max_outbound_connections"
  | "server_max_outbound_connections"
  | "server_reserve_outbound_connections"
  | "cluster_max_outbound_connections"
  | "cluster_scope_max_outbound_connections"
  | "cluster_server_max_outbound_connections";

/** Limits by option: a whole number of connections from 0, or -1 for unlimited. */
export type Limits = { readonly [option in LimitOption]?: number };

/** The inside of a scope that can hold `domain` and `host` stanzas. Patterns are keys in slashes: `"/\\.example\\.com$/"`. */
export interface ContainerInput extends Limits {
  readonly domain?: { readonly [nameOrPattern: string]: Limits };
  readonly host?: { readonly [nameOrPattern: string]: Limits };
}

/** A policy as a plain object, one to one with the stanzas of the text form. */
export interface PolicyInput extends ContainerInput {
  readonly binding?: { readonly [name: string]: ContainerInput & { readonly binding_group?: string } };
  readonly binding_group?: {
    readonly [name: string]: ContainerInput & { readonly binding?: { readonly [name: string]: ContainerInput } };
  };
}

/** One mistake in a policy, or one thing in it that deserves a look. */
export interface PolicyIssue {
  readonly rule:
    | "syntax"
    | "unknown-option"
    | "unknown-stanza"
    | "bad-value"
    | "wrong-scope"
    | "duplicate"
    | "bad-pattern"
    | "bad-name"
    | "include"
    | "unreachable";
  /** What is wrong, in lower case, the policy's own words in backticks. */
  readonly message: string;
  /** What to write instead. */
  readonly help?: string;
  /** The file, or the name given to the parser. */
  readonly source: string;
  /** From 1; 0 for an object and for a policy file that could not be read. */
  readonly line: number;
  /** From 1, in UTF-16 units; 0 for an object and for a policy file that could not be read. */
  readonly column: number;
  /** The line with a caret under the words, tabs kept; for an object the path: `binding["mta-1"].domain["gmail.com"]`. */
  readonly excerpt: string;
}

/**
 * Parsed, validated, frozen; no counters: one policy may serve many limiters.
 * Made by `parsePolicy`, `loadPolicy` or `definePolicy`.
 */
export interface Policy {
  /** The name it was given, usually its file. */
  readonly source: string;
  /** What was accepted but deserves a look: an option set twice, a limit never looked at, an ignored unknown name. */
  readonly warnings: readonly PolicyIssue[];
  /** Policy text that parses to an equal policy. */
  toString(): string;
}
