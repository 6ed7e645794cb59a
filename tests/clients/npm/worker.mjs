// A Worker that binds ours and asks it through Flagship's unmodified provider. The body of a request is a list of calls.
import { FlagshipServerProvider } from "@cloudflare/flagship/server";
import { OpenFeature } from "@openfeature/server-sdk";
import { evaluate } from "./evaluate.mjs";

export default {
  async fetch(request, env) {
    await OpenFeature.setProviderAndWait(new FlagshipServerProvider({ binding: env.FLAGS }));
    const client = OpenFeature.getClient();
    const results = [];
    for (const call of await request.json()) results.push(await evaluate(client, call));
    return Response.json(results);
  },
};
