/**
 * Callers of the open protocols: who they are, by a client secret as bearer or API key, and what their evaluations count for.
 * @module
 */
import type { Clients } from "./clients";
import type { Client } from "./plan";
import { Refusal } from "./refusal";
import type { OfrepClientSettings } from "./settings";

export interface Caller {
  readonly client: Client;
  /** Whether an evaluation is an exposure. */
  readonly applies: boolean;
}

export class Callers {
  constructor(
    private readonly clients: Clients,
    private readonly settings: Readonly<Record<string, OfrepClientSettings>>,
  ) {}

  /** Throws Refusal: 401 for an unknown secret, 403 for a backend's in a browser. */
  async of(request: Request): Promise<Caller> {
    const authorization = /^Bearer +(.+)$/i.exec(request.headers.get("authorization") ?? "");
    const secret = authorization?.[1] ?? request.headers.get("x-api-key") ?? "";
    const client = this.clients.known(secret) ?? (await this.clients.find(secret));
    const { backend = false, exposes = true } = this.settings[client.name] ?? {};
    if (backend && request.headers.has("origin")) {
      throw new Refusal(403, "backend_secret", "this secret is a backend's: it must not be used in a browser");
    }
    return { client, applies: exposes };
  }
}
