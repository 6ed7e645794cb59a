/**
 * JSON text in ASCII: V8 joins and encodes one-byte strings without looking at them.
 * @module
 */
const NON_ASCII = /[\u0080-\uffff]/g;
/** Printable ASCII without quote and backslash. */
const PLAIN = /^[ !#-[\]-~]*$/;

export function asciiJson(text: string): string {
  if (PLAIN.test(text)) return '"' + text + '"';
  return JSON.stringify(text).replace(NON_ASCII, escape);
}

function escape(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
