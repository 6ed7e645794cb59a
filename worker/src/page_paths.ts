/**
 * Which flags a path uses: an exact path before a beginning, a longer beginning before a shorter one.
 * @module
 */

export interface PagePath {
  readonly pattern: string;
  /** Full names. */
  readonly flags: readonly string[];
}

export class PagePaths {
  readonly #exact = new Map<string, PagePath>();
  readonly #beginnings: [string, PagePath][] = [];

  constructor(flags: Readonly<Record<string, readonly string[]>>) {
    for (const [pattern, names] of Object.entries(flags)) {
      const path = { pattern, flags: names.map((name) => `flags/${name}`) };
      if (pattern.endsWith("*")) this.#beginnings.push([pattern.slice(0, -1), path]);
      else this.#exact.set(pattern, path);
    }
    this.#beginnings.sort(([left], [right]) => right.length - left.length);
  }

  /** null for a path that is no page, or uses no flag. */
  find(path: string): PagePath | null {
    const found = this.#exact.get(path) ?? this.#beginnings.find(([beginning]) => path.startsWith(beginning))?.[1];
    return found === undefined || found.flags.length === 0 ? null : found;
  }
}
