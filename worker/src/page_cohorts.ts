/**
 * How many cohorts a page has: each is cached by itself, so many of them leave nothing to hit.
 * @module
 */

/** More than five flags of two variants each make. */
const COHORTS_MAX = 32;

export class CohortGuard {
  /** By path pattern; null where it was told already. */
  readonly #seen = new Map<string, Set<string> | null>();

  /** Count a cohort; tells once for each pattern and isolate when there are too many. */
  add(pattern: string, cohort: string): void {
    const seen = this.#seen.get(pattern);
    if (seen === null) return;
    if (seen === undefined) {
      this.#seen.set(pattern, new Set([cohort]));
      return;
    }
    seen.add(cohort);
    if (seen.size <= COHORTS_MAX) return;
    this.#seen.set(pattern, null);
    const hint = "each is cached by itself: name fewer flags for this path in PAGE_FLAGS";
    console.warn(JSON.stringify({ event: "page.cohorts_many", path: pattern, more_than: COHORTS_MAX, hint }));
  }
}
