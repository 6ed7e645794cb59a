/**
 * The answer of `flags:resolve`: fragments that were prepared once per outcome, put one behind the other.
 * @module
 */
import { asciiJson } from "./ascii";
import type { Outcome } from "./plan";
import type { Resolution } from "./resolve";

/** The body of the answer. `resolvedFlags` and `resolveToken` are always there: clients read them unguarded. */
export function resolveAnswer(resolution: Resolution, resolveId: string, resolveToken: string): string {
  let text = '{"resolvedFlags":[';
  for (let i = 0; i < resolution.count; i++) {
    const fragment = fragmentOf(resolution.outcomes[i] as Outcome, resolution.passed[i] !== null);
    text += i === 0 ? fragment : "," + fragment;
  }
  return text + '],"resolveToken":"' + resolveToken + '","resolveId":"' + resolveId + '"}';
}

/** Whether an exposure is due: a match, or a rule that was passed through on the way. */
export function shouldApply(outcome: Outcome, hasPassed: boolean): boolean {
  return outcome.kind === "match" || hasPassed;
}

function fragmentOf(outcome: Outcome, hasPassed: boolean): string {
  if (outcome.kind === "match" || !hasPassed) return (outcome.fragment ??= makeFragment(outcome, outcome.kind === "match"));
  return (outcome.appliedFragment ??= makeFragment(outcome, true));
}

function makeFragment(outcome: Outcome, applies: boolean): string {
  const { flag, rule, variant } = outcome;
  let text = `{"flag":${asciiJson(flag.name)}`;
  if (outcome.kind === "match") {
    const [name, value] = flag.variants[variant] ?? ["", "{}"];
    if (variant >= 0) text += `,"variant":${asciiJson(name)}`;
    text += `,"value":${value}`;
    if (variant < 0) text += ',"flagSchema":{}';
    else if (flag.schema !== null) text += `,"flagSchema":${flag.schema}`;
  }
  text += `,"reason":"RESOLVE_REASON_${outcome.reason}"`;
  if (applies) text += ',"shouldApply":true';
  if (rule !== null) text += `,"assignmentOrigin":${asciiJson(rule.name)}`;
  return flatten(text + "}");
}

/** Make V8 copy a string that it holds as a tree of parts: kept strings are read often. */
function flatten(text: string): string {
  Number(text.charCodeAt(0));
  return text;
}
