/** The words that a write of test/support/operate.c writes: they depend on its tag and on nothing else. */
export function contentOf(tag: number, length: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  for (let i = 0; i < words.length; i++) {
    let mixed = (Math.imul(tag, 0x9e3779b1) + i) | 0;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    words[i] = mixed ^ (mixed >>> 16);
  }
  const bytes = Buffer.from(words.buffer);
  return bytes.subarray(0, length);
}
