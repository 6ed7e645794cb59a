// Runs in a page: `evaluate` asks flags through a web provider, each call with its context as the page's.
import { FlagshipClientProvider } from "@cloudflare/flagship/web";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";
import { OpenFeature } from "@openfeature/web-sdk";
import { FlagedgeProvider } from "../../../worker/build/browser/openfeature.js";
import { contextOf, evaluate } from "./evaluate.mjs";

const PROVIDERS = {
  ofrep: (url, secret) => new OFREPWebProvider({ baseUrl: url, headers: [["Authorization", `Bearer ${secret}`]], cacheMode: "disabled" }),
  flagship: (url, secret, keys) => new FlagshipClientProvider({ endpoint: `${url}/v1/evaluate`, authToken: secret, prefetchFlags: keys }),
  flagedge: (url, secret) => new FlagedgeProvider({ url, clientSecret: secret }),
};

window.evaluate = async (provider, url, secret, calls) => {
  await OpenFeature.clearProviders();
  const keys = [...new Set(calls.map(([, key]) => key))];
  await OpenFeature.setContext(contextOf(calls[0]));
  // A provider that cannot start says so in each evaluation.
  await OpenFeature.setProviderAndWait(PROVIDERS[provider](url, secret, keys)).catch(() => undefined);
  const client = OpenFeature.getClient();
  const results = [];
  for (const call of calls) {
    await OpenFeature.setContext(contextOf(call));
    results.push(await evaluate(client, call));
  }
  return results;
};
