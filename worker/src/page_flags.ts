/**
 * The flags of a page, decided for a visitor: what the page is told, and which cohort that makes.
 * @module
 */
import { resolveAnswer } from "./answer";
import { asciiJson } from "./ascii";
import { assignedFlags } from "./assigned";
import type { Context } from "./context";
import type { Evaluator } from "./evaluator";
import type { FlagLog } from "./flag_log";
import { randomId } from "./ids";
import type { Origin } from "./message";
import type { Client, Outcome } from "./plan";
import type { Resolution } from "./resolve";
import type { AssignedFlag, TokenBody } from "./token_body";

/** Seals a token for a client; "" where there is no key. */
export type Seal = (body: TokenBody, client: Client, atMs: number) => Promise<string>;

export interface PageFlags {
  /** The answer of `flags:resolve`, with a token, in ASCII: an exposure comes of it on first use alone. */
  readonly bootstrap: string;
  /** JSON: variants by flag, short names, null for the default. */
  readonly variants: string;
  /** 32 hexadecimal digits that follow from the variants alone, their values included. */
  readonly cohort: string;
}

interface Question {
  readonly client: Client;
  /** Full names. */
  readonly flags: readonly string[];
  readonly context: Context;
  readonly execution: ExecutionContext;
  readonly origin: Origin;
}

interface Decided {
  readonly resolveId: string;
  readonly variants: string;
  readonly cohortText: string;
  readonly assignments: ReadonlyMap<string, AssignedFlag>;
  readonly answer: (token: string) => string;
}

const COHORTS_MAX = 1_000;
const TOKEN_PLACE = "\u0000";

export class PageFlagReader {
  /** By the text that a cohort is the digest of. */
  readonly #cohorts = new Map<string, string>();

  constructor(
    private readonly evaluator: Evaluator,
    private readonly log: FlagLog,
    private readonly seal: Seal,
  ) {}

  /** Throws ContextError. */
  async read({ client, flags, context, execution, origin }: Question): Promise<PageFlags> {
    const atMs = Date.now();
    const { resolveId, variants, cohortText, assignments, answer } = await this.evaluator.evaluate(
      client,
      client.viewsNamed(flags),
      context,
      execution,
      (resolution) => {
        const decided = decide(resolution);
        this.log.addResolve(resolution, atMs, execution, (latencyMicros) => {
          return { client, origin, resolveId: decided.resolveId, atMs, applies: false, latencyMicros };
        });
        return decided;
      },
    );
    const token = await this.seal({ resolveId, assignments }, client, atMs);
    return { bootstrap: answer(token), variants, cohort: await this.#cohortOf(cohortText) };
  }

  async #cohortOf(text: string): Promise<string> {
    let cohort = this.#cohorts.get(text);
    if (cohort === undefined) {
      const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
      cohort = new Uint8Array(digest).toHex().slice(0, 32);
      if (this.#cohorts.size >= COHORTS_MAX) this.#cohorts.clear();
      this.#cohorts.set(text, cohort);
    }
    return cohort;
  }
}

/** All that is wanted of a resolution, which the next request writes over. */
function decide(resolution: Resolution): Decided {
  const resolveId = randomId(32);
  const unsealed = resolveAnswer(resolution, resolveId, TOKEN_PLACE);
  const shown = resolution.outcomes.slice(0, resolution.count).map((outcome) => variantOf(outcome as Outcome));
  const pairs = shown.map(({ flag, variant }) => `${asciiJson(shortName(flag))}:${variant === null ? null : asciiJson(shortName(variant))}`);
  return {
    resolveId,
    variants: `{${pairs.join()}}`,
    cohortText: JSON.stringify(shown.map(({ flag, variant, value }) => [flag, variant, value])),
    assignments: new Map(assignedFlags(resolution).map((assigned) => [assigned.flag, assigned])),
    answer: (token) => unsealed.replace(TOKEN_PLACE, token),
  };
}

function variantOf({ flag, kind, variant }: Outcome): { flag: string; variant: string | null; value: string | null } {
  const [name, value] = (kind === "match" ? flag.variants[variant] : undefined) ?? [null, null];
  return { flag: flag.name, variant: name, value };
}

function shortName(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1);
}
