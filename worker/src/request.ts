/**
 * Reading the JSON of the resolver API: both spellings of each field, the types of protobuf's JSON mapping.
 * What `JSON.parse` cannot tell from good JSON is accepted (docs/parity.md).
 * @module
 */
import type { Context } from "./context";
import { isStruct } from "./context";
import { parseMoment } from "./values";

/** The body cannot be read; the message is for the caller. */
export class RequestError extends Error {}

export interface Sdk {
  /** The SDK id's name, or the custom id; "" when not given. */
  readonly id: string;
  readonly version: string;
}

export interface ResolveRequest {
  flags: readonly string[];
  context: Context;
  clientSecret: string;
  apply: boolean;
  sdk: Sdk;
}

export const NO_SDK: Sdk = { id: "", version: "" };
const NO_CONTEXT: Context = {};

/** Read the body of `flags:resolve`. Throws RequestError. */
export function readResolveRequest(body: string): ResolveRequest {
  const json = parseObject(body);
  const request: ResolveRequest = { flags: [], context: NO_CONTEXT, clientSecret: "", apply: false, sdk: NO_SDK };
  for (const key in json) {
    const value = json[key];
    switch (key) {
      case "flags":
        request.flags = readStrings(value, key);
        break;
      case "evaluation_context":
        refuseBoth(json, "evaluationContext", key);
      case "evaluationContext":
        if (value !== null) request.context = readContext(value, key);
        break;
      case "client_secret":
        refuseBoth(json, "clientSecret", key);
      case "clientSecret":
        request.clientSecret = readString(value, key);
        break;
      case "apply":
        if (typeof value !== "boolean") throw new RequestError("apply must be a boolean");
        request.apply = value;
        break;
      case "sdk":
        if (value !== null) request.sdk = readSdk(value);
        break;
    }
  }
  return request;
}

function parseObject(body: string): Readonly<Record<string, unknown>> {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    throw new RequestError("the body is not JSON");
  }
  if (!isStruct(json)) throw new RequestError("the body must be a JSON object");
  return json;
}

function refuseBoth(json: Readonly<Record<string, unknown>>, camel: string, snake: string): void {
  if (Object.hasOwn(json, camel)) throw new RequestError(`${camel} is given twice (${camel}, ${snake})`);
}

function readString(value: unknown, key: string): string {
  if (typeof value !== "string") throw new RequestError(`${key} must be a string`);
  return value;
}

function readStrings(value: unknown, key: string): readonly string[] {
  if (!Array.isArray(value)) throw new RequestError(`${key} must be a list of strings`);
  for (let i = 0; i < value.length; i++) readString(value[i], key);
  return value as string[];
}

function readContext(value: unknown, key: string): Context {
  if (!isStruct(value)) throw new RequestError(`${key} must be an object`);
  return value;
}

function readSdk(value: unknown): Sdk {
  if (!isStruct(value)) throw new RequestError("sdk must be an object");
  const id = value["id"] ?? null;
  const custom = value["customId"] ?? value["custom_id"] ?? null;
  const version = value["version"] === undefined ? "" : readString(value["version"], "sdk.version");
  if (custom !== null) {
    if (id !== null) throw new RequestError("sdk has both an id and a custom id");
    return { id: readString(custom, "sdk.customId"), version };
  }
  if (id !== null && typeof id !== "string" && !Number.isInteger(id)) throw new RequestError("sdk.id must be a name or a number");
  return { id: String(id ?? ""), version };
}

export interface ApplyRequest {
  readonly flags: readonly { readonly flag: string; readonly applyTimeMs: number | null }[];
  readonly clientSecret: string;
  readonly resolveToken: Uint8Array;
  readonly sendTimeMs: number | null;
  readonly sdk: Sdk;
}

/** Read the body of `flags:apply`. Throws RequestError. */
export function readApplyRequest(body: string): ApplyRequest {
  const json = parseObject(body);
  const flags = field(json, "flags", "flags") ?? [];
  if (!Array.isArray(flags)) throw new RequestError("flags must be a list");
  const sdk = field(json, "sdk", "sdk") ?? null;
  return {
    flags: flags.map(readAppliedFlag),
    clientSecret: readString(field(json, "clientSecret", "client_secret") ?? "", "clientSecret"),
    resolveToken: readBase64(field(json, "resolveToken", "resolve_token")),
    sendTimeMs: readTime(field(json, "sendTime", "send_time"), "sendTime"),
    sdk: sdk === null ? NO_SDK : readSdk(sdk),
  };
}

/** A field under either spelling; undefined when it is absent. An explicit null of a text is refused. */
function field(json: Readonly<Record<string, unknown>>, camel: string, snake: string): unknown {
  if (camel !== snake && Object.hasOwn(json, snake)) {
    refuseBoth(json, camel, snake);
    return nonNull(json[snake], snake);
  }
  return Object.hasOwn(json, camel) ? nonNull(json[camel], camel) : undefined;
}

function nonNull(value: unknown, key: string): unknown {
  if (value === null && !/^(sdk|sendTime|send_time|applyTime|apply_time)$/.test(key)) throw new RequestError(`${key} must not be null`);
  return value;
}

function readAppliedFlag(value: unknown): { flag: string; applyTimeMs: number | null } {
  if (!isStruct(value)) throw new RequestError("flags must be a list of objects");
  const flag = readString(field(value, "flag", "flag") ?? "", "flag");
  return { flag, applyTimeMs: readTime(field(value, "applyTime", "apply_time"), "applyTime") };
}

function readTime(value: unknown, key: string): number | null {
  if (value === undefined || value === null) return null;
  const time = parseMoment(readString(value, key));
  if (time === undefined) throw new RequestError(`${key} must be an RFC 3339 time`);
  return time;
}

/** Standard or URL-safe base64, padded or not; nothing else among it. */
function readBase64(value: unknown): Uint8Array {
  const text = value === undefined ? "" : readString(value, "resolveToken");
  const isUrlSafe = /^[A-Za-z0-9_-]*={0,2}$/.test(text);
  try {
    if (!isUrlSafe && !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) throw new SyntaxError("stray characters");
    const padded = text.includes("=") ? text : text.padEnd(Math.ceil(text.length / 4) * 4, "=");
    return Uint8Array.fromBase64(padded, { alphabet: isUrlSafe ? "base64url" : "base64", lastChunkHandling: "strict" });
  } catch {
    throw new RequestError("resolveToken must be base64");
  }
}
