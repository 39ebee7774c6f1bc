import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { inspect, type Acknowledged, type Loss } from './record.ts';
import { numberOf, type Scenario } from './scenario.ts';

/** What is wrong after a power cut. */
export interface Finding {
  readonly what: Loss | 'filesystem';
  readonly where: string;
}

/**
 * Mounts what a power cut left, which replays the journal, compares all files with what had been acknowledged, and
 * checks the filesystem.
 *
 * @param folder where the image and the mount point may be made
 */
export async function examine(
  device: Buffer,
  acknowledged: Acknowledged,
  { data }: Scenario,
  folder: string,
): Promise<Finding[]> {
  const image = join(folder, 'image');
  const mountPoint = join(folder, 'mnt');
  writeFileSync(image, device);
  mkdirSync(mountPoint);
  const findings: Finding[] = [];
  try {
    const mount = await execa('mount', ['-o', `loop,data=${data}`, image, mountPoint], { reject: false });
    if (mount.exitCode !== 0) return [{ what: 'filesystem', where: mount.stderr }];
    try {
      findings.push(...compare(mountPoint, acknowledged, data === 'ordered'));
    } finally {
      await execa('umount', [mountPoint]);
    }
  } finally {
    rmdirSync(mountPoint);
  }
  const check = await execa('e2fsck', ['-fn', image], { reject: false, all: true });
  if (check.exitCode !== 0) findings.push({ what: 'filesystem', where: check.all.slice(0, 300) });
  return findings;
}

/** @param ordered blocks that were not acknowledged are the file's own as well */
function compare(mountPoint: string, { files }: Acknowledged, ordered: boolean): Finding[] {
  const findings: Finding[] = [];
  const names = new Map(readdirSync(mountPoint).map((name) => [numberOf(name), name]));
  for (const file of files.keys()) {
    if (!names.has(file)) findings.push({ what: 'missing', where: `file ${file}` });
  }
  for (const [file, name] of names) {
    if (Number.isNaN(file)) continue;
    const content = readFileSync(join(mountPoint, name));
    const found = inspect(content, file, files.get(file) ?? new Map<number, number>(), ordered);
    findings.push(...found.map(({ loss, slot }) => ({ what: loss, where: `${name}, record ${slot}` })));
  }
  return findings;
}
