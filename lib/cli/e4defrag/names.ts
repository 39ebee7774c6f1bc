import { lstat, readdir } from 'node:fs/promises';
import { join } from '../../scan/targets.ts';

/** How many names there are, as nftw(3) with FTW_PHYS and FTW_MOUNT meets them: directories and the root count. */
export interface NameCount {
  names: number;
  regularFiles: number;
}

/** Counts what lies at and below a directory, on its filesystem. What cannot be read counts as nothing. */
export async function countNames(directory: Buffer): Promise<NameCount> {
  const count: NameCount = { names: 1, regularFiles: 0 };
  const { dev } = await lstat(directory);
  const pending = [directory];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    for (const entry of await entriesOf(path)) {
      if (entry.isDirectory()) {
        const below = join(path, entry.name);
        if (!(await isOn(dev, below))) continue;
        pending.push(below);
      }
      count.names++;
      if (entry.isFile()) count.regularFiles++;
    }
  }
  return count;
}

const entriesOf = (path: Buffer) =>
  readdir(path, { withFileTypes: true, encoding: 'buffer' }).catch(() => []);

const isOn = (device: number, path: Buffer): Promise<boolean> =>
  lstat(path).then(
    ({ dev }) => dev === device,
    () => false,
  );
