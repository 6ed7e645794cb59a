/**
 * What lasts as long as the isolate, whatever plan is served: its memory of keys and its log are one.
 * @module
 */
import { LogChannel } from "./flag_log";
import type { HotState } from "./hot_state";
import { AccessTokens } from "./page_access";
import { type PageSettings, readPageSettings } from "./page_settings";
import { type Env, metricsOf, queueOf, readSettings, type Settings } from "./settings";
import { TokenBox } from "./token";

export class Lasting {
  readonly settings: Settings;
  readonly log: LogChannel;
  readonly tokens: TokenBox;
  /** null where this Worker serves no pages. */
  readonly pages: PageSettings | null;
  /** null where no claims of Cloudflare Access are believed. */
  readonly access: AccessTokens | null;

  constructor(
    env: Env,
    /** null where plans come with deployments alone. */
    readonly hot: HotState | null,
  ) {
    this.settings = readSettings(env);
    this.log = new LogChannel(this.settings, queueOf(env), metricsOf(env));
    this.tokens = new TokenBox(this.settings.tokens);
    this.pages = IS_FULL ? readPageSettings(env) : null;
    this.access = IS_FULL && this.pages?.access ? new AccessTokens(this.pages.access) : null;
  }
}
