/**
 * Assignments as tokens hold them and logs report them: what a resolve decided, spelt out.
 * @module
 */
import { shouldApply } from "./answer";
import type { Outcome } from "./plan";
import type { Resolution } from "./resolve";
import type { AssignedFlag } from "./token_body";

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
