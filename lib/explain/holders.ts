import { readdir, readFile, stat } from 'node:fs/promises';
import type { BigIntStats } from 'node:fs';

/** A process that has a file in use. */
export interface Holder {
  readonly pid: number;
  /** Its name, as the kernel shortens it (comm). */
  readonly name: string;
  readonly how: 'open' | 'executes' | 'maps';
}

/** What an inode is told from others by. */
export type InodeId = Pick<BigIntStats, 'dev' | 'ino'>;

/**
 * The processes that have a file in use, of those that this user may look at; without this one. A process that goes
 * away meanwhile is none.
 */
export async function holdersOf(file: InodeId): Promise<Holder[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const found: Holder[] = [];
  for (const pid of pids) {
    const how = await useOf(`/proc/${pid}`, file).catch(() => undefined);
    if (how === undefined) continue;
    const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
    found.push({ pid: Number(pid), name: name.trimEnd(), how });
  }
  return found;
}

async function useOf(folder: string, file: InodeId): Promise<Holder['how'] | undefined> {
  if (await isSame(`${folder}/exe`, file)) return 'executes';
  for (const fd of await readdir(`${folder}/fd`)) {
    if (await isSame(`${folder}/fd/${fd}`, file)) return 'open';
  }
  // A file stays mapped when it is closed. The names of map_files are addresses; only root may follow them.
  const maps = await readFile(`${folder}/maps`, 'latin1');
  const inode = new RegExp(`^([0-9a-f]+-[0-9a-f]+) .* [0-9a-f]+:[0-9a-f]+ ${file.ino} `, 'gm');
  for (const [, range] of maps.matchAll(inode)) {
    if (await isSame(`${folder}/map_files/${range}`, file)) return 'maps';
  }
  return undefined;
}

async function isSame(link: string, { dev, ino }: InodeId): Promise<boolean> {
  const info = await stat(link, { bigint: true }).catch(() => undefined);
  return info?.dev === dev && info.ino === ino;
}
