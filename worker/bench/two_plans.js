// Two Workers as they are uploaded, each with its plan, in one isolate: a header chooses.
import first from "./first/worker.js";
import second from "./second/worker.js";

const workers = { first, second };

export default {
  fetch: (request, env, context) => workers[request.headers.get("x-worker") ?? "first"].fetch(request, env, context),
};
