// Two Workers as they are uploaded, each with its plan, in one isolate: a header chooses. Needs V8's --expose-gc.
import first from "./first/worker.js";
import second from "./second/worker.js";

const workers = { first, second };

export default {
  async fetch(request, env, context) {
    if (request.headers.has("x-collect-garbage")) {
      gc();
      return new Response();
    }
    return workers[request.headers.get("x-worker")].fetch(request, env, context);
  },
};
