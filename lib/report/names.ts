import type { Named } from './events.ts';

/** Controls, format characters (bidi overrides among them), line separators and lone surrogates. */
const UNSAFE = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]|(?![\u200c\u200d])\p{Cf}/gu;
const UNSAFE_OR_BACKSLASH = new RegExp(`\\\\|${UNSAFE.source}`, 'gu');

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' };

function escape(char: string): string {
  const code = char.codePointAt(0)!;
  return SHORT[char] ?? (code < 0x100 ? escapeByte(code) : `\\u{${code.toString(16)}}`);
}

const escapeByte = (byte: number): string => `\\x${byte.toString(16).padStart(2, '0')}`;

/** A message made safe for a terminal: one line, nothing that moves the cursor or turns the text around. */
export const printableText = (text: string): string => text.replace(UNSAFE, escape);

/**
 * A file's name made safe for a terminal and unambiguous: what is not printable, and what is not UTF-8, appears as
 * an escape, and a backslash as two.
 */
export function printable({ path, pathBytes }: Named): string {
  if (pathBytes === undefined) return path.replace(UNSAFE_OR_BACKSLASH, escape);
  let result = '';
  for (let at = 0; at < pathBytes.length;) {
    const char = validUtf8At(pathBytes, at);
    result += char === undefined ? escapeByte(pathBytes[at]) : char.replace(UNSAFE_OR_BACKSLASH, escape);
    at += char === undefined ? 1 : Buffer.byteLength(char);
  }
  return result;
}

/**
 * A target's name as a word for the shell, which this program takes for neither an option nor a command.
 *
 * @returns undefined for a name that cannot be shown as it is
 */
export function shellWord({ path, pathBytes }: Named): string | undefined {
  if (pathBytes !== undefined || printableText(path) !== path) return undefined;
  const word = /^\.{0,2}(\/|$)/.test(path) ? path : `./${path}`;
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function validUtf8At(bytes: Buffer, at: number): string | undefined {
  const lead = bytes[at];
  const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  const sequence = bytes.subarray(at, at + length);
  const char = sequence.toString();
  // What does not come back the same was not UTF-8: U+FFFD has taken its place.
  return Buffer.from(char).equals(sequence) ? char : undefined;
}

const ZERO_WIDTH = /[\p{Mn}\p{Me}\u200c\u200d]/u;
/** East Asian wide and emoji (Unicode's EastAsianWidth.txt, roughly). */
const DOUBLE_WIDTH =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;

const charWidth = (char: string): number => (ZERO_WIDTH.test(char) ? 0 : DOUBLE_WIDTH.test(char) ? 2 : 1);

/** Columns that a printable text takes on a terminal. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const char of text) width += charWidth(char);
  return width;
}

/** The end of a printable path, which tells more than its beginning, in at most so many columns. */
export function truncatePath(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  const mark = '...';
  const chars = [...text];
  let left = columns - mark.length;
  let from = chars.length;
  while (from > 0 && charWidth(chars[from - 1]) <= left) left -= charWidth(chars[--from]);
  return left < 0 ? '' : mark + chars.slice(from).join('');
}
