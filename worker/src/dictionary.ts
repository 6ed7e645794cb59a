/**
 * The dictionaries of a flag-log message: each string stands once, rows refer to it by its number.
 * Texts are JSON in ASCII, so that a length is a number of bytes and V8 joins them without looking.
 * Source: docs/log-format.md.
 * @module
 */
import { asciiJson } from "./ascii";

/** The most that an index costs in a column, comma included: what has an index costs more than 13 bytes itself. */
export const NUMBER_BYTES = 5;
const RULE_BYTES = 2 * NUMBER_BYTES + 3;
const OUTCOME_BYTES = 3 * NUMBER_BYTES + 3;
const NONE = "null";

/** A rule's names as its row in the dictionary has them. */
export interface RuleNames {
  readonly rule: string;
  readonly segment: string;
  readonly selector: string;
}

/** An outcome's names as its row in the dictionary has them; made once, by `outcomeNames`. */
export interface OutcomeNames {
  readonly flag: string;
  readonly rule: RuleNames | null;
  readonly reason: string;
  readonly variant: string;
  readonly assignmentId: string;
}

/** The JSON text of a name without its parent's prefix, or whole behind a slash; null for "". */
function shortName(name: string, prefix: string): string {
  if (name === "") return NONE;
  const isShort = name.startsWith(prefix) && name[prefix.length] !== "/";
  return asciiJson(isShort ? name.slice(prefix.length) : `/${name}`);
}

export function ruleNames(flag: string, rule: string, segment: string, selector: string): RuleNames {
  // A rule without a name is still a rule.
  const name = rule === "" ? '"/"' : shortName(rule, `${flag}/rules/`);
  return { rule: name, segment: shortName(segment, "segments/"), selector: asciiJson(selector) };
}

export function outcomeNames(flag: string, reason: string, rule: RuleNames | null, variant: string, assignmentId: string): OutcomeNames {
  const variants = `${flag}/variants/`;
  return {
    flag: flag === "" ? '"/"' : shortName(flag, "flags/"),
    rule,
    reason: asciiJson(reason),
    variant: shortName(variant, variants),
    assignmentId: shortName(assignmentId, variants),
  };
}

/** Texts of a JSON list, and the number under which each is known. */
export class Dictionary<Key> {
  readonly #numbers = new Map<Key, number>();
  #text = "";

  get bytes(): number {
    return this.#text.length;
  }

  /** The list's elements with commas between them. */
  get text(): string {
    return this.#text.slice(1);
  }

  /** The number of what is known already. */
  find(key: Key): number | undefined {
    return this.#numbers.get(key);
  }

  /** Enter what is not known yet; its number. */
  add(key: Key, text: string): number {
    const number = this.#numbers.size;
    this.#numbers.set(key, number);
    this.#text += "," + text;
    return number;
  }
}

/** What was decided, in levels: flags, rules by flag, outcomes by rule. */
export class OutcomeDictionary {
  /** An upper bound of its size. */
  bytes = 0;
  count = 0;
  readonly #flags = new Dictionary<string>();
  readonly #selectors = new Dictionary<string>();
  readonly #reasons = new Dictionary<string>();
  readonly #rules = new Dictionary<RuleNames>();
  #ruleFlags = "";
  #ruleSegments = "";
  #ruleSelectors = "";
  #flagColumn = "";
  #ruleColumn = "";
  #reasonColumn = "";
  #variantColumn = "";
  #assignmentColumn = "";

  /** Enter an outcome that is not known yet; its number. */
  add(names: OutcomeNames): number {
    const flag = this.#numberOf(this.#flags, names.flag);
    this.#flagColumn += "," + flag;
    this.#ruleColumn += "," + (names.rule === null ? -1 : this.#ruleNumber(names.rule, flag));
    this.#reasonColumn += "," + this.#numberOf(this.#reasons, names.reason);
    this.#variantColumn += "," + names.variant;
    this.#assignmentColumn += "," + names.assignmentId;
    this.bytes += names.variant.length + names.assignmentId.length + OUTCOME_BYTES;
    return this.count++;
  }

  #ruleNumber(names: RuleNames, flag: number): number {
    const known = this.#rules.find(names);
    if (known !== undefined) return known;
    this.#ruleFlags += "," + flag;
    this.#ruleSegments += "," + names.segment;
    this.#ruleSelectors += "," + this.#numberOf(this.#selectors, names.selector);
    this.bytes += names.rule.length + names.segment.length + RULE_BYTES;
    return this.#rules.add(names, names.rule);
  }

  #numberOf(dictionary: Dictionary<string>, text: string): number {
    const known = dictionary.find(text);
    if (known !== undefined) return known;
    this.bytes += text.length + 1;
    return dictionary.add(text, text);
  }

  /** Its keys of the message. */
  toJson(): string {
    return (
      `"flags":[${this.#flags.text}],"selectors":[${this.#selectors.text}],` +
      `"rules":{"flag":[${this.#ruleFlags.slice(1)}],"rule":[${this.#rules.text}],` +
      `"segment":[${this.#ruleSegments.slice(1)}],"selector":[${this.#ruleSelectors.slice(1)}]},` +
      `"reasons":[${this.#reasons.text}],` +
      `"outcomes":{"flag":[${this.#flagColumn.slice(1)}],"rule":[${this.#ruleColumn.slice(1)}],` +
      `"reason":[${this.#reasonColumn.slice(1)}],"variant":[${this.#variantColumn.slice(1)}],` +
      `"assignment_id":[${this.#assignmentColumn.slice(1)}]}`
    );
  }
}

/** An upper bound of what an outcome adds, its flag, rule, selector and reason included. */
export function bytesOf(names: OutcomeNames): number {
  const { rule } = names;
  const ruleBytes = rule === null ? 0 : rule.rule.length + rule.segment.length + rule.selector.length + 1 + RULE_BYTES;
  return names.flag.length + names.reason.length + names.variant.length + names.assignmentId.length + OUTCOME_BYTES + 2 + ruleBytes;
}
