// The front of one script: a stable address before the workerd processes that run its versions.
//
// `table` names the versions that get traffic, each with the slot (a fixed Unix socket) its process listens on.
// Replacing the table is one assignment, so a request runs on the old version or on the new one, whole; requests
// already handed over finish where they are. Bodies stream through without passing JavaScript.

let table = { enabled: false, versions: [] };

function notFound() {
  return new Response("error code: 1042", { status: 404, headers: { "content-type": "text/plain" } });
}

async function forward(request, env) {
  const version = table.versions[0];
  if (version === undefined) return notFound();
  try {
    return await env[`SLOT_${version.slot}`].fetch(request);
  } catch {
    return new Response("error code: 1101", { status: 502, headers: { "content-type": "text/plain" } });
  }
}

// The public address: what workers.dev would serve.
export default {
  fetch(request, env) {
    return table.enabled ? forward(request, env) : notFound();
  },
};

// Service bindings come in here, whether or not the script has a public address.
export const inside = { fetch: forward };

export const control = {
  async fetch(request) {
    table = await request.json();
    return new Response("ok");
  },
};
