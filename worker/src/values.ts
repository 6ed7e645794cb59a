/**
 * Readings of context values: numbers, timestamps and versions out of text, and text out of numbers.
 * Source: the official resolver's parsers, leniencies included (docs/parity.md).
 * @module
 */

/** A moment; `nanos` may reach 1,999,999,999 within a leap second. */
export class Timestamp {
  constructor(
    readonly seconds: number,
    readonly nanos: number,
  ) {}
}

/** A version: compared by its four numbers, equal by its text. */
export class Version {
  constructor(
    readonly text: string,
    readonly parts: readonly number[],
  ) {}
}

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;
const INFINITE = /^[+-]?(?:inf|infinity)$/i;
const NAN = /^[+-]?nan$/i;

/** A number from the whole of `text`, or undefined. Infinities and NaN have words; overflow is infinity. */
export function parseNumber(text: string): number | undefined {
  if (NUMBER.test(text)) return Number(text);
  if (INFINITE.test(text)) return text.charCodeAt(0) === 45 ? -Infinity : Infinity;
  return NAN.test(text) ? NaN : undefined;
}

/** The shortest digits that give the number back, never with an exponent: 1e21 is 1000000000000000000000. */
export function numberText(number: number): string {
  const text = String(number);
  if (number === 0) return Object.is(number, -0) ? "-0" : "0";
  const exponentAt = text.indexOf("e");
  if (exponentAt < 0) return text === "Infinity" ? "inf" : text === "-Infinity" ? "-inf" : text;
  const sign = number < 0 ? "-" : "";
  const mantissa = text.slice(sign.length, exponentAt);
  const digits = mantissa.replace(".", "");
  const power = Number(text.slice(exponentAt + 1));
  return power < 0 ? `${sign}0.${"0".repeat(-power - 1)}${digits}` : sign + digits + "0".repeat(power + 1 - digits.length);
}

const VERSION_PART = /^\d{1,10}$/;
const NO_VERSION = [0, 0, 0, 0] as const;

/** A version as four numbers; what is not one is 0.0.0.0. */
export function parseVersion(text: string): Version {
  const dash = text.indexOf("-");
  const parts = (dash < 0 ? text : text.slice(0, dash)).split(".");
  if (parts.length < 2 || parts.length > 4 || !parts.every((part) => VERSION_PART.test(part))) {
    return new Version(text, NO_VERSION);
  }
  const [first = 0, second = 0, third = 0, fourth = 0] = parts.map(Number);
  const thirdIsTag = parts.length === 3 && (parts[2] as string).length > 3;
  return new Version(text, thirdIsTag ? [first, second, 0, third] : [first, second, third, fourth]);
}

const SECONDS_MIN = -8334601228800;
const SECONDS_MAX = 8210266876799;
const I64_MAX = 2 ** 63;

/** A number is seconds, or milliseconds from 1e12 on; its fraction is cut. */
export function timestampOfNumber(number: number): Timestamp | undefined {
  if (!Number.isFinite(number)) return undefined;
  const whole = Math.max(-I64_MAX, Math.min(I64_MAX, Math.trunc(number)));
  const isMillis = Math.abs(whole) >= 1e12;
  const seconds = isMillis ? Math.floor(whole / 1000) : whole;
  if (seconds < SECONDS_MIN || seconds > SECONDS_MAX) return undefined;
  return new Timestamp(seconds + 0, isMillis ? (whole - seconds * 1000) * 1e6 : 0);
}

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d))$/;
const SPACE = "[\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]*";
const DATE_PART = `${SPACE}(\\d{1,4}|[+-]\\d+)-${SPACE}(\\d{1,2})-${SPACE}(\\d{1,2})`;
const TIME_PART = `${SPACE}(\\d{1,2}):${SPACE}(\\d{1,2}):${SPACE}(\\d{1,2})(?:\\.(\\d+))?`;
const LENIENT_DATE = new RegExp(`^${DATE_PART}$`);
const LENIENT_T = new RegExp(`^${DATE_PART}T${TIME_PART}$`);
const LENIENT_BLANK = new RegExp(`^${DATE_PART}${TIME_PART}$`);

/** A timestamp from text: RFC 3339 with an offset, local date and time taken as UTC, or a date. */
export function parseTimestamp(text: string): Timestamp | undefined {
  const separator = text.search(/[T ]/);
  if (separator < 0) return parseDate(text);
  const rest = text.slice(separator + 1);
  const next = rest.search(/[T ]/);
  return /[Z+-]/.test(next < 0 ? rest : rest.slice(0, next)) ? parseRfc3339(text) : parseLocalTime(text);
}

/** A lenient `year-month-day`, midnight UTC. */
export function parseDate(text: string): Timestamp | undefined {
  const match = LENIENT_DATE.exec(text);
  return match === null ? undefined : moment(match, 0);
}

/** A lenient local date and time, taken as UTC. */
export function parseLocalTime(text: string): Timestamp | undefined {
  const match = LENIENT_T.exec(text) ?? LENIENT_BLANK.exec(text);
  return match === null ? undefined : moment(match, 0);
}

/** Epoch milliseconds of a strict RFC 3339 text; `t`, `z`, a blank as separator and U+2212 as minus are RFC too. */
export function parseMoment(text: string): number | undefined {
  const moment = parseRfc3339(text.replace(/^(.{10})t/, "$1T").replace(/z$/, "Z").replace("\u2212", "-"));
  return moment === undefined ? undefined : moment.seconds * 1000 + Math.floor(moment.nanos / 1e6);
}

function parseRfc3339(text: string): Timestamp | undefined {
  const match = RFC3339.exec(text);
  if (match === null) return undefined;
  const hours = Number(match[9] ?? 0);
  const minutes = Number(match[10] ?? 0);
  if (hours > 23 || minutes > 59) return undefined;
  return moment(match, (match[8] === "-" ? 1 : -1) * (hours * 3600 + minutes * 60));
}

/** Groups 1–7 of `match` (year, month, day, hour, minute, second, fraction), shifted by `offset` seconds. */
function moment(match: RegExpExecArray, offset: number): Timestamp | undefined {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map((text) => Number(text ?? 0));
  const nanos = Number((match[7] ?? "").slice(0, 9).padEnd(9, "0"));
  if (hour > 23 || minute > 59 || second > 60 || year > 262142 || year < -262143) return undefined;
  const days = daysOf(year, month, day);
  if (days === undefined) return undefined;
  const leap = second === 60;
  return new Timestamp(days * 86400 + hour * 3600 + minute * 60 + (leap ? 59 : second) + offset, leap ? 1e9 + nanos : nanos);
}

const MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Days since 1970-01-01 of a proleptic Gregorian date; undefined when there is no such day. */
function daysOf(year: number, month: number, day: number): number | undefined {
  const isLeap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  const length = month === 2 && isLeap ? 29 : MONTH_DAYS[month - 1];
  if (length === undefined || day < 1 || day > length) return undefined;
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  return era * 146097 + yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear - 719468;
}

/** Order of two texts by code point (that of their UTF-8 bytes): negative, 0 or positive. */
export function compareText(left: string, right: string): number {
  const length = Math.min(left.length, right.length);
  for (let i = 0; i < length; i++) {
    const a = left.charCodeAt(i);
    const b = right.charCodeAt(i);
    if (a !== b) return codePointRank(a) - codePointRank(b);
  }
  return left.length - right.length;
}

/** UTF-16 puts surrogates below U+E000–U+FFFF, code points above. */
function codePointRank(unit: number): number {
  return unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}
