import { readFileSync } from 'node:fs';

/**
 * The bytes of the last arguments of this process: Node has decoded them, and names that are not UTF-8 are lost in
 * `process.argv`.
 *
 * @param count how many there are
 * @returns the bytes of the argument at an index, or undefined where /proc does not tell
 */
export function argumentBytes(count: number): (index: number) => Buffer | undefined {
  return (index) => {
    try {
      const all = splitAtZero(readFileSync('/proc/self/cmdline'));
      return all[all.length - count + index];
    } catch {
      return undefined;
    }
  };
}

function splitAtZero(bytes: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  for (let from = 0; from < bytes.length;) {
    const end = bytes.indexOf(0, from);
    const stop = end === -1 ? bytes.length : end;
    parts.push(bytes.subarray(from, stop));
    from = stop + 1;
  }
  return parts;
}
