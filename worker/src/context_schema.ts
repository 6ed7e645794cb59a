/**
 * The shape of a context, as Confidence collects it: kinds by path, and what texts look like.
 * Source: `ClientResolveInfo` of the flag logs.
 * @module
 */
import type { Context } from "./context";
import { isStruct } from "./context";
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
const VERSION = /^\+?\d+\.\+?\d+\.\+?\d+$/;
const U32_MAX = 4294967295;

/**
 * A context's schema as one string: per leaf its path, a tab, its kind's letter (S N B), its semantic type's letter
 * (c country, d date, t timestamp, v version, or none), a newline. Equal schemas met in equal order give equal strings.
 */
export function schemaSignature(context: Context): string {
  return signStruct(context, "");
}

function signStruct(struct: Context, prefix: string): string {
  let signature = "";
  for (const key in struct) {
    const value = struct[key];
    if (typeof value === "string") signature += prefix + key + "\tS" + semanticType(prefix + key, value) + "\n";
    else if (typeof value === "number") signature += prefix + key + "\tN\n";
    else if (typeof value === "boolean") signature += prefix + key + "\tB\n";
    else if (Array.isArray(value)) signature += signList(value, prefix + key);
    else if (value !== null) signature += signStruct(value as Context, `${prefix + key}.`);
  }
  return signature;
}

/** A list of one kind counts as its first element; a mixed or empty one as nothing. */
function signList(list: readonly unknown[], path: string): string {
  const kinds = new Set(list.filter((value) => value !== null).map((value) => (Array.isArray(value) ? "list" : typeof value)));
  const [first] = list;
  if (kinds.size !== 1 || first === null || isStruct(first)) return "";
  if (Array.isArray(first)) return signList(first, path);
  return typeof first === "string" ? `${path}\tS${semanticType(path, first)}\n` : `${path}\t${typeof first === "number" ? "N" : "B"}\n`;
}

function semanticType(path: string, text: string): string {
  if (isCountryPath(path)) return COUNTRIES.has(text.toUpperCase()) ? "c" : "";
  const first = text.charCodeAt(0);
  // Dates, timestamps and versions begin with a digit, a sign or a blank.
  if (!(first <= 57) || (first > 43 && first < 48 && first !== 45)) return first > 127 ? slowType(text) : "";
  return slowType(text);
}

function slowType(text: string): string {
  if (text.length >= 10 && parseDate(text) !== undefined) return "d";
  if (text.length >= 15 && isTimestamp(text)) return "t";
  return VERSION.test(text) && text.split(".").every((part) => Number(part) <= U32_MAX) ? "v" : "";
}

function isTimestamp(text: string): boolean {
  if (RFC3339_LENIENT.test(text)) return parseTimestamp(text.replace(/[tz]/g, (char) => char.toUpperCase())) !== undefined;
  return text.includes("T") && !text.endsWith("Z") && parseLocalTime(text) !== undefined;
}

const countryPaths = new Map<string, boolean>();
const COUNTRY_PATHS_MAX = 1000;

function isCountryPath(path: string): boolean {
  let isCountry = countryPaths.get(path);
  if (isCountry === undefined) {
    if (countryPaths.size >= COUNTRY_PATHS_MAX) countryPaths.clear();
    isCountry = path.toLowerCase().includes("country");
    countryPaths.set(path, isCountry);
  }
  return isCountry;
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
