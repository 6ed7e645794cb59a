/**
 * Whether two answers say the same, whatever the order of flags and keys.
 * @module
 */

export function differ(left: string, right: string): boolean {
  return flagsOf(left) !== flagsOf(right);
}

function flagsOf(answer: string): string {
  const { resolvedFlags } = JSON.parse(answer) as { resolvedFlags: { flag: string }[] };
  const sorted = resolvedFlags.sort((left, right) => (left.flag < right.flag ? -1 : 1));
  return JSON.stringify(sorted, (_, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1)))
      : value,
  );
}
