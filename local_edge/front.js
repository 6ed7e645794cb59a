// The front of one script: a stable address before the workerd processes that run its versions.
//
// `views` says what the edge knows of the script's deployment: whether workers.dev serves it, and the versions, newest
// first, each with its share of the traffic and the slot (a fixed Unix socket) that its process listens on. There is
// one view, and while a change spreads and places differ, several. Replacing them is one assignment, so a request runs
// on one version, whole; requests already handed over finish where they are. Bodies stream through without passing
// JavaScript. Source: Cloudflare Workers, gradual deployments, version overrides and version affinity.

const OVERRIDES = "cloudflare-workers-version-overrides";
const VERSION_KEY = "cloudflare-workers-version-key";
const MEMBER = /^[ \t]*([a-z*][a-z0-9_.*-]*)="([^"\\]*)"[ \t]*$/;

let views = [{ enabled: false, versions: [] }];

function notFound() {
  return new Response("error code: 1042", { status: 404, headers: { "content-type": "text/plain" } });
}

// The version that the header names for `script`; a header that is no dictionary of strings (RFC 8941) names none.
function overriddenId(header, script) {
  const members = header.split(",").map((member) => MEMBER.exec(member));
  if (members.includes(null)) return undefined;
  return members.findLast((member) => member[1] === script)?.[2];
}

// From 0 up to 100, the same for the same key: FNV-1a over UTF-16 code units, its bits mixed as murmur3 does at its end.
function bucketOf(key) {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 0x1_0000_0000 * 100;
}

// Newest first, so that a key which has met the new version stays there while its share grows.
function choose(versions, headers, script) {
  const overrides = headers.get(OVERRIDES);
  const id = overrides === null ? undefined : overriddenId(overrides, script);
  const named = versions.find((version) => version.id === id);
  if (named !== undefined) return named;
  const key = headers.get(VERSION_KEY);
  let left = key === null ? Math.random() * 100 : bucketOf(key);
  for (const version of versions) {
    if (left < version.percentage) return version;
    left -= version.percentage;
  }
  return versions.findLast((version) => version.percentage > 0);
}

async function forward(request, env, view) {
  const version = choose(view.versions, request.headers, env.SCRIPT);
  if (version === undefined) return notFound();
  try {
    return await env[`SLOT_${version.slot}`].fetch(request);
  } catch {
    return new Response("error code: 1101", { status: 502, headers: { "content-type": "text/plain" } });
  }
}

function anyView() {
  return views.length === 1 ? views[0] : views[Math.floor(Math.random() * views.length)];
}

// The public address: what workers.dev would serve.
export default {
  fetch(request, env) {
    const view = anyView();
    return view.enabled ? forward(request, env, view) : notFound();
  },
};

// Service bindings come in here, whether or not the script has a public address.
export const inside = { fetch: (request, env) => forward(request, env, anyView()) };

export const control = {
  async fetch(request) {
    views = await request.json();
    return new Response("ok");
  },
};
