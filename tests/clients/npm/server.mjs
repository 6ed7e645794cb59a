// Runs in node: evaluates flags through an unmodified server provider, prints JSON.
// Arguments: provider (ofrep or flagship), the Worker's URL, client secret. Standard input: a list of calls.
import { text } from "node:stream/consumers";
import { FlagshipServerProvider } from "@cloudflare/flagship/server";
import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OpenFeature } from "@openfeature/server-sdk";
import { evaluate } from "./evaluate.mjs";

const PROVIDERS = {
  ofrep: (url, secret) => new OFREPProvider({ baseUrl: url, headers: { Authorization: `Bearer ${secret}` } }),
  flagship: (url, secret) => new FlagshipServerProvider({ endpoint: `${url}/v1/evaluate`, authToken: secret }),
};

const [provider, url, secret] = process.argv.slice(2);
await OpenFeature.setProviderAndWait(PROVIDERS[provider](url, secret));
const client = OpenFeature.getClient();
const results = [];
for (const call of JSON.parse(await text(process.stdin))) results.push(await evaluate(client, call));
console.log(JSON.stringify(results));
