/** Numbers written one behind the other, seven bits a byte (LEB128), as text in base64. */
export class ByteWriter {
  #bytes = new Uint8Array(1024);
  #length = 0;

  byte(value: number): void {
    if (this.#length === this.#bytes.length) {
      const longer = new Uint8Array(this.#length * 2);
      longer.set(this.#bytes);
      this.#bytes = longer;
    }
    this.#bytes[this.#length++] = value;
  }

  /** @param value a natural number below 2^53 */
  number(value: number): void {
    let rest = value;
    // Not by bit operations, which have only 32.
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.byte((rest % 0x80) + 0x80);
    this.byte(rest);
  }

  /** A number that may be below zero. */
  signed(value: number): void {
    this.number(value < 0 ? -2 * value - 1 : 2 * value);
  }

  toBase64(): string {
    let text = '';
    for (let at = 0; at < this.#length; at += 0x8000) {
      text += String.fromCharCode(...this.#bytes.subarray(at, Math.min(this.#length, at + 0x8000)));
    }
    return btoa(text);
  }
}

/** What was to be read is not what was written. */
export class Malformed extends Error {
  override readonly name = 'Malformed';
}

export class ByteReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  /** @throws Malformed */
  constructor(base64: string) {
    let text: string;
    try {
      text = atob(base64);
    } catch {
      throw new Malformed('it is not base64');
    }
    this.#bytes = new Uint8Array(text.length);
    // By index: an iterator takes ten times as long.
    for (let at = 0; at < text.length; at++) this.#bytes[at] = text.charCodeAt(at);
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** @throws Malformed at the end */
  byte(): number {
    if (this.atEnd) throw new Malformed('it ends too soon');
    return this.#bytes[this.#at++];
  }

  /** @throws Malformed for more than 2^53 - 1 */
  number(): number {
    let [value, unit] = [0, 1];
    for (;;) {
      const byte = this.byte();
      value += (byte & 0x7f) * unit;
      if (value > Number.MAX_SAFE_INTEGER) throw new Malformed('a number is too large');
      if (byte < 0x80) return value;
      unit *= 0x80;
    }
  }

  signed(): number {
    const value = this.number();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
}
