import { readFile } from 'node:fs/promises';
import { bytes, type Bytes } from '../layout/units.ts';

let size: Promise<Bytes> | undefined;

/** The kernel's page size, from this process's auxiliary vector (getauxval(3), AT_PAGESZ). */
export function pageSize(): Promise<Bytes> {
  size ??= readPageSize();
  return size;
}

async function readPageSize(): Promise<Bytes> {
  const AT_PAGESZ = 6n;
  const vector = await readFile('/proc/self/auxv');
  for (let at = 0; at + 16 <= vector.length; at += 16) {
    if (vector.readBigUInt64LE(at) === AT_PAGESZ) return bytes(Number(vector.readBigUInt64LE(at + 8)));
  }
  throw new Error('/proc/self/auxv: the page size is not there; is /proc mounted?');
}
