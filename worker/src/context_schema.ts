/**
 * The shape of a context, as Confidence collects it: kinds by path, and what texts look like.
 * Source: `ClientResolveInfo` of the flag logs.
 * @module
 */
import { parseDate, parseLocalTime, parseTimestamp } from "./values";

const COUNTRIES = new Set(
  (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ " +
    "CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR " +
    "GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP " +
    "KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ " +
    "NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW " +
    "SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ " +
    "UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
  ).split(" "),
);
const RFC3339_LENIENT = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/;
const VERSION_FORM = /^\+?\d+\.\+?\d+\.\+?\d+$/;
const U32_MAX = 4294967295;
/** What is shorter holds no larger number. */
const U32_DIGITS = 10;

/** What kind of value stands at a path, semantic type included. */
export type Kind = 0 | 1 | 2 | 3 | 4 | typeof NUMBER | typeof BOOLEAN | typeof STRUCT;
const TEXT = 0;
const COUNTRY = 1;
const DATE = 2;
const TIMESTAMP = 3;
const VERSION = 4;
export const NUMBER = 5;
export const BOOLEAN = 6;
export const STRUCT = 7;
/**
 * What follows a path and a tab in a signature, by kind: the kind's letter, then its semantic type's (country, date,
 * timestamp, version).
 */
export const LINES = ["S", "Sc", "Sd", "St", "Sv", "N", "B"] as const;

export function kindOfText(text: string, isCountry: boolean): Kind {
  if (isCountry) return text.length <= 2 && COUNTRIES.has(text.toUpperCase()) ? COUNTRY : TEXT;
  const first = text.charCodeAt(0);
  // Dates, timestamps and versions begin with a digit, a sign or a blank.
  if (!(first <= 57) || (first > 43 && first < 48 && first !== 45)) return first > 127 ? slowKind(text) : TEXT;
  return slowKind(text);
}

export function isCountryPath(path: string): boolean {
  return path.toLowerCase().includes("country");
}

function slowKind(text: string): Kind {
  // Every date has a dash after its year.
  if (text.includes("-", 1)) {
    if (text.length >= 10 && parseDate(text) !== undefined) return DATE;
    if (text.length >= 15 && isTimestamp(text)) return TIMESTAMP;
  }
  return VERSION_FORM.test(text) && (text.length < U32_DIGITS || text.split(".").every((part) => Number(part) <= U32_MAX)) ? VERSION : TEXT;
}

function isTimestamp(text: string): boolean {
  if (RFC3339_LENIENT.test(text)) return parseTimestamp(text.replace(/[tz]/g, (char) => char.toUpperCase())) !== undefined;
  return text.includes("T") && !text.endsWith("Z") && parseLocalTime(text) !== undefined;
}

const KINDS: Readonly<Record<string, string>> = { S: "STRING_KIND", N: "NUMBER_KIND", B: "BOOL_KIND" };
const SEMANTIC_TYPES: Readonly<Record<string, object>> = {
  c: { country: { format: "TWO_LETTER_ISO_CODE" } },
  d: { date: {} },
  t: { timestamp: {} },
  v: { version: {} },
};

export interface ContextSchema {
  schema: Record<string, string>;
  semantic_types: Record<string, object>;
}

/** The schema that a signature stands for. */
export function schemaOf(signature: string): ContextSchema {
  const schema: Record<string, string> = {};
  const types: Record<string, object> = {};
  for (const line of signature.split("\n")) {
    const tab = line.lastIndexOf("\t");
    if (tab < 0) continue;
    const path = line.slice(0, tab);
    schema[path] = KINDS[line[tab + 1] ?? ""] ?? "KIND_UNSPECIFIED";
    const type = SEMANTIC_TYPES[line[tab + 2] ?? ""];
    if (type !== undefined) types[path] = type;
  }
  return { schema, semantic_types: types };
}
