/**
 * Flag logs as the official Worker writes them: one `WriteFlagLogsRequest` in JSON per request, for those who keep
 * its consumer. What does not fit one message is split over several.
 * Source: proto/flagedge/wire/logs.proto, JSON mapping.
 * @module
 */
import { assignedFlags } from "./assigned";
import { schemaOf } from "./context_schema";
import { LATENCY_RATIO, latencyBucket } from "./latency";
import type { LoggedApply, LoggedResolve, LogSink } from "./logs";
import type { Client, Outcome, Plan } from "./plan";
import type { Passed, Resolution } from "./resolve";
import type { AssignedFlag } from "./token_body";

/** The body is a JSON string that holds JSON: quotes are escaped once more on their way. */
const MESSAGE_MAX_CHARS = 90_000;

export class UpstreamLogBook implements LogSink {
  readonly contentType = "json";
  readonly #version: string;
  #messages: string[] = [];

  constructor(version: string) {
    this.#version = version;
  }

  takeMessages(): string[] {
    const messages = this.#messages;
    this.#messages = [];
    return messages;
  }

  addResolve(_plan: Plan, resolve: LoggedResolve, resolution: Resolution): void {
    const reasons = new Map<string, number>();
    const infos: string[] = [];
    for (let i = 0; i < resolution.count; i++) {
      const outcome = resolution.outcomes[i] as Outcome;
      reasons.set(outcome.reason, (reasons.get(outcome.reason) ?? 0) + 1);
      infos.push(JSON.stringify(flagResolveInfo(outcome, resolution.passed[i] ?? [])));
    }
    const rates = [...reasons].map(([reason, count]) => ({ count, reason: `RESOLVE_REASON_${reason}` }));
    const { schema, semantic_types } = schemaOf(resolution.shape?.signature ?? "");
    const instance = { ...ifAny("schema", schema), ...ifAny("semanticTypes", semantic_types) };
    const { client } = resolve;
    const head =
      `"telemetryData":${JSON.stringify(this.#telemetry(rates, resolve.latencyMicros))},` +
      `"clientResolveInfo":[${JSON.stringify({ client: client.name, clientCredential: client.credential, schema: [instance] })}]`;
    const applied = resolve.applies ? assignedFlags(resolution).map((flag) => appliedFlag(flag, resolve.atMs)) : null;
    this.#pack(head, applied, infos, client, resolve.resolveId);
  }

  addApplied(_plan: Plan, apply: LoggedApply): void {
    const flags = apply.flags.map(({ assigned, appliedAtMs }) => appliedFlag(assigned, appliedAtMs));
    this.#pack("", flags, [], apply.client, apply.resolveId);
  }

  addError(): void {
    this.#messages.push(`{"telemetryData":${JSON.stringify(this.#telemetry([{ count: 1, reason: "RESOLVE_REASON_ERROR" }], 0))}}`);
  }

  #telemetry(rates: object[], micros: number): object {
    return {
      sdk: { version: this.#version, id: "SDK_ID_CLOUDFLARE_RESOLVER" },
      resolveLatency: {
        ...(micros > 0 ? { sum: micros } : {}),
        count: 1,
        buckets: [{ offset: latencyBucket(micros), counts: [1] }],
        lnRatio: LATENCY_RATIO,
      },
      ...(rates.length > 0 ? { resolveRate: rates } : {}),
      resolverVersion: this.#version,
    };
  }

  /** Fill messages in order: the head with the first, then applied flags, then resolve infos. */
  #pack(head: string, applied: string[] | null, infos: string[], client: Client, resolveId: string): void {
    const clientInfo = JSON.stringify({ client: client.name, clientCredential: client.credential });
    let start = head;
    let flags: string[] = [];
    let kept: string[] = [];
    let chars = head.length;
    let isOpen = head !== "" || applied !== null;
    const close = (): void => {
      const envelope = `{"resolveId":"${resolveId}","clientInfo":${clientInfo}${flags.length > 0 ? `,"flags":[${flags.join()}]` : ""}}`;
      const parts = [
        applied !== null && (flags.length > 0 || applied.length === 0) ? `"flagAssigned":[${envelope}]` : "",
        start,
        kept.length > 0 ? `"flagResolveInfo":[${kept.join()}]` : "",
      ];
      this.#messages.push(`{${parts.filter((part) => part !== "").join()}}`);
      [start, flags, kept, chars, isOpen] = ["", [], [], 0, false];
    };
    for (const [items, into] of [[applied ?? [], () => flags], [infos, () => kept]] as const) {
      for (const item of items) {
        if (isOpen && chars + item.length > MESSAGE_MAX_CHARS) close();
        into().push(item);
        chars += item.length;
        isOpen = true;
      }
    }
    if (isOpen) close();
  }
}

function appliedFlag(flag: AssignedFlag, atMs: number): string {
  const reason = flag.reason === 2 ? { reason: "NO_SEGMENT_MATCH" } : {};
  return JSON.stringify({
    flag: flag.flag,
    ...ifText("targetingKey", flag.targetingKey),
    ...ifText("targetingKeySelector", flag.selector),
    ...ifText("assignmentId", flag.assignmentId),
    ...ifText("rule", flag.rule),
    ...(flag.fallthroughs.length > 0 ? { fallthroughAssignments: flag.fallthroughs.map(fallthrough) } : {}),
    applyTime: timeText(atMs),
    ...(flag.variant !== ""
      ? { assignmentInfo: { ...ifText("segment", flag.segment), variant: flag.variant } }
      : { defaultAssignment: reason }),
  });
}

function fallthrough(passed: AssignedFlag["fallthroughs"][number]): object {
  return {
    ...ifText("rule", passed.rule),
    ...ifText("assignmentId", passed.assignmentId),
    ...ifText("targetingKey", passed.targetingKey),
    ...ifText("targetingKeySelector", passed.selector),
  };
}

function flagResolveInfo(outcome: Outcome, passed: readonly Passed[]): object {
  const rules = passed.map(({ outcome: through }) => ruleResolveInfo(through));
  if (outcome.rule !== null) rules.push(ruleResolveInfo(outcome));
  return {
    flag: outcome.flag.name,
    variantResolveInfo: [{ ...ifText("variant", outcome.variantName), count: "1" }],
    ...(rules.length > 0 ? { ruleResolveInfo: rules } : {}),
  };
}

function ruleResolveInfo({ rule, assignmentId }: Outcome): object {
  return { rule: rule?.name, count: "1", assignmentResolveInfo: [{ ...ifText("assignmentId", assignmentId), count: "1" }] };
}

function ifText(key: string, value: string): object {
  return value === "" ? {} : { [key]: value };
}

function ifAny(key: string, value: object): object {
  return Object.keys(value).length > 0 ? { [key]: value } : {};
}

/** RFC 3339 with `+00:00`, and no fraction where there is none. */
function timeText(ms: number): string {
  return new Date(ms).toISOString().replace(".000Z", "Z").replace("Z", "+00:00");
}
