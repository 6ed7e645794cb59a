/**
 * Requests that are refused, and the reading of bodies within bounds.
 * @module
 */
const BODY_MAX_BYTES = 1_048_576;
const TOO_LARGE = `a body is at most ${BODY_MAX_BYTES} bytes`;
const OPENING_BRACE = 123;
const FORM_TYPES = /^(multipart\/form-data|application\/x-www-form-urlencoded)/i;

/** An answer other than 200: its code is stable, its message is for people. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }
}

/** Refuse another method; HEAD asks what GET asks. */
export function allow(request: Request, method: "GET" | "POST"): void {
  if (request.method !== method && !(method === "GET" && request.method === "HEAD")) throw notAllowed(method);
}

export function notAllowed(method: "GET" | "POST"): Refusal {
  return new Refusal(405, "method_not_allowed", `use ${method}`, { allow: method === "GET" ? "GET, HEAD, OPTIONS" : "POST, OPTIONS" });
}

/** The body of a POST, within bounds. A form is told so, as its text is no JSON anyway. */
export async function readBody(request: Request): Promise<string> {
  if (Number(request.headers.get("content-length")) > BODY_MAX_BYTES) throw new Refusal(413, "body_too_large", TOO_LARGE);
  const body = await request.text();
  if (body.length > BODY_MAX_BYTES) throw new Refusal(413, "body_too_large", TOO_LARGE);
  if (body.charCodeAt(0) !== OPENING_BRACE && FORM_TYPES.test(request.headers.get("content-type") ?? "")) {
    throw new Refusal(415, "unsupported_media_type", "send application/json");
  }
  return body;
}
