/**
 * Assignments as tokens hold them and logs report them: what a resolve decided, spelt out.
 * @module
 */
import { shouldApply } from "./answer";
import { type OutcomeNames, outcomeNames, type RuleNames, ruleNames } from "./dictionary";
import type { Outcome } from "./plan";
import type { Resolution } from "./resolve";
import type { AssignedFallthrough, AssignedFlag } from "./token_body";

/** Names of the `ResolveReason`s by number, without their prefix. */
export const REASONS = [
  "UNSPECIFIED",
  "MATCH",
  "NO_SEGMENT_MATCH",
  "NO_TREATMENT_MATCH",
  "FLAG_ARCHIVED",
  "TARGETING_KEY_ERROR",
  "ERROR",
  "UNRECOGNIZED_TARGETING_RULE",
  "MATERIALIZATION_NOT_SUPPORTED",
  "TYPE_MISMATCH",
  "FLAG_NOT_FOUND",
] as const;

/** The flags of a resolution that may be applied. */
export function assignedFlags(resolution: Resolution): AssignedFlag[] {
  const flags: AssignedFlag[] = [];
  const unitOf = (slot: number) => resolution.units[slot] ?? "";
  for (let i = 0; i < resolution.count; i++) {
    const outcome = resolution.outcomes[i] as Outcome;
    const passed = resolution.passed[i] ?? null;
    if (!shouldApply(outcome, passed !== null)) continue;
    flags.push({
      flag: outcome.flag.name,
      targetingKey: unitOf(resolution.slots[i] as number),
      segment: outcome.rule?.segment.name ?? "",
      variant: outcome.variantName,
      rule: outcome.rule?.name ?? "",
      reason: (REASONS as readonly string[]).indexOf(outcome.reason),
      assignmentId: outcome.assignmentId,
      selector: outcome.rule?.selector ?? "",
      fallthroughs: (passed ?? []).map(({ outcome: through, slot }) => ({
        rule: through.rule?.name ?? "",
        assignmentId: through.assignmentId,
        targetingKey: unitOf(slot),
        selector: through.rule?.selector ?? "",
      })),
    });
  }
  return flags;
}

/** Names of what opened tokens spell out, for a log's dictionaries: equal names are the same object. */
export class AssignedNames {
  readonly #rules = new Map<string, RuleNames>();
  readonly #outcomes = new Map<string, OutcomeNames>();

  ofFlag(assigned: AssignedFlag): OutcomeNames {
    const reason = assigned.variant === "" ? (REASONS[assigned.reason] ?? "UNSPECIFIED") : "MATCH";
    const rule = reason === "MATCH" ? this.#rule(assigned.flag, assigned.rule, assigned.segment, assigned.selector) : null;
    return this.#outcome(assigned.flag, reason, rule, assigned.variant, assigned.assignmentId);
  }

  /** Those of a rule that was passed through; a token does not know its segment. */
  ofFallthrough(flag: string, passed: AssignedFallthrough): OutcomeNames {
    return this.#outcome(flag, "FALLTHROUGH", this.#rule(flag, passed.rule, "", passed.selector), "", passed.assignmentId);
  }

  #rule(...names: Parameters<typeof ruleNames>): RuleNames {
    return memoised(this.#rules, JSON.stringify(names), () => ruleNames(...names));
  }

  #outcome(...names: Parameters<typeof outcomeNames>): OutcomeNames {
    return memoised(this.#outcomes, JSON.stringify(names), () => outcomeNames(...names));
  }
}

function memoised<Value>(memory: Map<string, Value>, key: string, make: () => Value): Value {
  let value = memory.get(key);
  if (value === undefined) memory.set(key, (value = make()));
  return value;
}
