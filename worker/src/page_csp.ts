/**
 * Leave for one inline script under a page's Content-Security-Policy.
 * Source: Content Security Policy Level 3 (W3C): effective directives, nonces, when `'unsafe-inline'` counts.
 * @module
 */

const HEADERS = ["content-security-policy", "content-security-policy-report-only"];
/** The first that a policy has decides about script elements. */
const DIRECTIVES = ["script-src-elem", "script-src", "default-src"];
const NONCE = /'nonce-([\w+/-]+=*)'/gi;
/** Where one of these is, `'unsafe-inline'` does not count. */
const STRICT = /^'(nonce-|sha(256|384|512)-|strict-dynamic')/i;

export interface ScriptLeave {
  /** The nonce that the script must carry; null where no policy asks for one. */
  readonly nonce: string | null;
  /** Fresh nonces by those in the page that are no longer its policies'. */
  readonly renewed: ReadonlyMap<string, string>;
}

/** A policy: its directives, and which of them decides about script elements, -1 for none. */
interface Policy {
  readonly directives: string[];
  readonly at: number;
}

/**
 * Change the policies in `headers` so that a script with the nonce may run, and nothing else that could not before. The page's own nonce
 * is used where every policy that asks for one has it for scripts. In a page that is one that others get too (`isShared`), each
 * nonce first becomes a fresh one of its own.
 */
export function leaveForScript(headers: Headers, makeNonce: () => string, isShared: boolean): ScriptLeave {
  const present = HEADERS.filter((name) => headers.has(name));
  const renewed = new Map<string, string>();
  const texts = present.map((name) => (isShared ? renewedText(headers.get(name) as string, renewed, makeNonce) : (headers.get(name) as string)));
  const policies = texts.map((text) => text.split(",").map(readPolicy));
  const asking = policies.flat().filter(({ directives, at }) => at >= 0 && !isInlineAllowed(sourcesOf(directives[at])));
  const own = noncesOf(asking[0]).find((nonce) => asking.every((policy) => noncesOf(policy).includes(nonce)));
  const nonce = asking.length === 0 ? null : (own ?? makeNonce());
  if (nonce !== null && own === undefined) for (const policy of asking) allowNonce(policy, nonce);
  present.forEach((name, index) => headers.set(name, (policies[index] as Policy[]).map(({ directives }) => directives.join("; ")).join(", ")));
  return { nonce, renewed };
}

function renewedText(text: string, renewed: Map<string, string>, makeNonce: () => string): string {
  return text.replace(NONCE, (_, nonce: string) => {
    if (!renewed.has(nonce)) renewed.set(nonce, makeNonce());
    return `'nonce-${renewed.get(nonce)}'`;
  });
}

function readPolicy(text: string): Policy {
  const directives = text.split(";").map((directive) => directive.trim()).filter((directive) => directive !== "");
  const names = directives.map((directive) => directive.split(/\s/, 1)[0]?.toLowerCase());
  return { directives, at: names.indexOf(DIRECTIVES.find((name) => names.includes(name))) };
}

function sourcesOf(directive = ""): string[] {
  return directive.split(/\s+/).slice(1);
}

/** The nonces that a policy has for scripts. */
function noncesOf(policy?: Policy): string[] {
  return [...(policy?.directives[policy.at] ?? "").matchAll(NONCE)].map((match) => match[1] as string);
}

function allowNonce({ directives, at }: Policy, nonce: string): void {
  const directive = directives[at] as string;
  const allowed = [...sourcesOf(directive).filter((source) => source.toLowerCase() !== "'none'"), `'nonce-${nonce}'`].join(" ");
  // A nonce in default-src would be one for styles too, and switch their 'unsafe-inline' off.
  if (/^default-src(\s|$)/i.test(directive)) directives.push(`script-src ${allowed}`);
  else directives[at] = `${directive.split(/\s/, 1)[0]?.toLowerCase()} ${allowed}`;
}

function isInlineAllowed(sources: readonly string[]): boolean {
  return sources.some((source) => source.toLowerCase() === "'unsafe-inline'") && !sources.some((source) => STRICT.test(source));
}
