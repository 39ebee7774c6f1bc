// Everything downloaded or built once lives here. An entry appears by rename, complete or not at all, so any
// number of runs may share the folder without locks: whoever builds the same entry second throws his away.
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

const unusedDays = 14;

export function cacheFolder(): string {
  const { EXT4_DEFRAG_VM_CACHE, XDG_CACHE_HOME } = process.env;
  return EXT4_DEFRAG_VM_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'ext4-defrag', 'vm');
}

export function digest(...parts: (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex').slice(0, 16);
}

/** The path of the cache entry `name`, which `build` makes (a file or a folder) if it is not there yet. */
export async function cached(name: string, build: (path: string) => Promise<void>): Promise<string> {
  const entry = join(cacheFolder(), name);
  if (await touch(entry)) return entry;
  const unfinished = unfinishedPath();
  await mkdir(cacheFolder(), { recursive: true });
  try {
    await build(unfinished);
    await rename(unfinished, entry).catch(async (error: unknown) => {
      if (!(await touch(entry))) throw error;
    });
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  await touch(entry); // an unpacked package brings its own, old, time
  await removeUnused();
  return entry;
}

/** Writes a small cache entry anew: readers see the old content or the new, whole. */
export async function replaceEntry(name: string, content: string): Promise<void> {
  const unfinished = unfinishedPath();
  await mkdir(cacheFolder(), { recursive: true });
  await writeFile(unfinished, content);
  await rename(unfinished, join(cacheFolder(), name));
}

/** A new name in the cache folder; what is left there after a crash goes the way of all unused entries. */
export function unfinishedPath(): string {
  return join(cacheFolder(), `unfinished-${process.pid}-${randomUUID()}`);
}

/** Marks an entry as used now; false if there is none. */
async function touch(entry: string): Promise<boolean> {
  const now = new Date();
  return utimes(entry, now, now).then(
    () => true,
    () => false,
  );
}

/** Old kernels and old root disks are large and nobody comes back for them. */
async function removeUnused(): Promise<void> {
  const oldest = Date.now() - unusedDays * 24 * 3600 * 1000;
  for (const name of await readdir(cacheFolder())) {
    const entry = join(cacheFolder(), name);
    const info = await stat(entry).catch(() => undefined);
    if (info && info.mtimeMs < oldest) await rm(entry, { recursive: true, force: true });
  }
}
