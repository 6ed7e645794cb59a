/**
 * Leave for one inline script under a page's Content-Security-Policy.
 * Source: Content Security Policy Level 3 (W3C): effective directives, nonces, when `'unsafe-inline'` counts.
 * @module
 */

const HEADERS = ["content-security-policy", "content-security-policy-report-only"];
/** The first that a policy has decides about script elements. */
const DIRECTIVES = ["script-src-elem", "script-src", "default-src"];
export const NONCE = /'nonce-([\w+/-]+=*)'/gi;
/** Where one of these is, `'unsafe-inline'` does not count. */
const STRICT = /^'(nonce-|sha(256|384|512)-|strict-dynamic')/i;

export interface ScriptLeave {
  /** The nonce that the script must carry; null where no policy asks for one. */
  readonly nonce: string | null;
  /** Nonces in the page that are no longer those of its policies. */
  readonly outdated: ReadonlySet<string>;
}

/**
 * Change the policies in `headers` so that a script with the nonce may run. A page's own nonce is used, unless the page
 * is one that others get too: then `fresh` takes the place of all of them.
 */
export function leaveForScript(headers: Headers, fresh: string, isShared: boolean): ScriptLeave {
  const present = HEADERS.filter((name) => headers.has(name));
  const found = present.flatMap((name) => [...(headers.get(name) as string).matchAll(NONCE)].map((match) => match[1] as string));
  const nonce = isShared ? fresh : (found[0] ?? fresh);
  for (const name of present) {
    let text = headers.get(name) as string;
    if (isShared) text = text.replace(NONCE, `'nonce-${fresh}'`);
    headers.set(name, text.split(",").map((policy) => allowNonce(policy, nonce)).join(", "));
  }
  return { nonce: present.length === 0 ? null : nonce, outdated: new Set(isShared ? found : []) };
}

function allowNonce(policy: string, nonce: string): string {
  const directives = policy.split(";").map((directive) => directive.trim()).filter((directive) => directive !== "");
  const names = directives.map((directive) => directive.split(/\s/, 1)[0]?.toLowerCase());
  const name = DIRECTIVES.find((each) => names.includes(each));
  if (name === undefined) return directives.join("; ");
  const at = names.indexOf(name);
  const sources = (directives[at] as string).split(/\s+/).slice(1);
  const own = `'nonce-${nonce}'`;
  if (isInlineAllowed(sources) || sources.includes(own)) return directives.join("; ");
  const allowed = [...sources.filter((source) => source.toLowerCase() !== "'none'"), own].join(" ");
  // A nonce in default-src would be one for styles too, and switch their 'unsafe-inline' off.
  if (name === "default-src") directives.push(`script-src ${allowed}`);
  else directives[at] = `${name} ${allowed}`;
  return directives.join("; ");
}

function isInlineAllowed(sources: readonly string[]): boolean {
  return sources.some((source) => source.toLowerCase() === "'unsafe-inline'") && !sources.some((source) => STRICT.test(source));
}
