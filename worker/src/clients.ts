/**
 * Who asks: the plan knows clients by the SHA-256 of their secrets, and secrets seen before are remembered.
 * @module
 */
import type { Client, Plan } from "./plan";
import { Refusal } from "./refusal";

const SECRETS_MAX = 1000;

export class Clients {
  readonly #bySha256: ReadonlyMap<string, Client>;
  /** null for secrets that no client has. */
  readonly #seen = new Map<string, Client | null>();

  constructor(plan: Plan) {
    this.#bySha256 = new Map(plan.clients.map((client) => [client.secretSha256, client]));
  }

  /** The client of a secret that was seen before. */
  known(secret: string): Client | null | undefined {
    return this.#seen.get(secret);
  }

  /** The client of a secret. Throws a 401 that reveals nothing. */
  async find(secret: string): Promise<Client> {
    let client = this.#seen.get(secret);
    if (client === undefined) {
      const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret));
      client = this.#bySha256.get(new Uint8Array(digest).toHex()) ?? null;
      if (this.#seen.size >= SECRETS_MAX) this.#seen.clear();
      this.#seen.set(secret, client);
    }
    if (client === null) throw new Refusal(401, "unknown_client_secret", "no client has this secret");
    return client;
  }
}
