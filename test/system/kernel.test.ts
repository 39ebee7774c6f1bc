// Kernels and features that this program does not know, and kernels that it knows to have bugs.
import { randomBytes } from 'node:crypto';
import { open, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { EXIT } from '../../lib/cli/exitCode.ts';
import { changed, FILE_SIZE, fragmentedFiles, runCommand, runJson } from '../support/faults.ts';
import { MiB } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

/** Words that make Node take this for another kernel. */
function pretending(release: string, version = '#1 SMP'): string[] {
  const script = `
    import os from 'node:os';
    import { syncBuiltinESMExports } from 'node:module';
    os.release = () => ${JSON.stringify(release)};
    os.version = () => ${JSON.stringify(version)};
    syncBuiltinESMExports();`;
  return ['env', `NODE_OPTIONS=--import=data:text/javascript,${encodeURIComponent(script)}`];
}

const small = { size: 64 * MiB };

describe('a kernel with known bugs', () => {
  const bad = pretending('6.1.0-18-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)');

  test('is worked on with a warning that names them, once', async () => {
    const l = await useLab(small);
    const before = await fragmentedFiles(l, 2);
    const text = await runCommand([l.path('a'), '--no-state'], bad);
    expect(text.exitCode).toBe(EXIT.OK);
    expect(text.stderr).toMatch(
      /^ext4-defrag: note: Linux 6\.1\.76 has known bugs: CVE-2024-26704 .*; install a newer kernel$/,
    );
    expect(text.stdout).toContain(`${FILE_SIZE / l.blockSize / 4} -> 1 fragments`);
    const { events, defragmented } = await runJson([l.path('a'), l.path('b'), '--no-state'], bad);
    expect([...defragmented]).toEqual(['b']);
    const notices = events.filter(({ type }) => type === 'notice');
    expect(notices).toMatchObject([
      { about: 'kernel', message: expect.stringContaining('CVE-2024-49883') as string },
    ]);
    expect(await changed(l, before)).toEqual([]);
  });

  test('is refused with --require-safe-kernel, which lets this one work', async () => {
    const l = await useLab(small);
    await fragmentedFiles(l, 1);
    const args = [l.path('a'), '--no-state', '--require-safe-kernel'];
    const refused = await runCommand(args, bad);
    expect(refused).toMatchObject({ exitCode: EXIT.UNSUPPORTED });
    expect(refused.stderr).toMatch(/Linux 6\.1\.76 has known bugs: CVE-2024-26704 .*--require-safe-kernel$/);
    const { exitCode, defragmented, events } = await runJson(args);
    expect({ exitCode, defragmented: [...defragmented] }).toEqual({ exitCode: EXIT.OK, defragmented: ['a'] });
    expect(events.some(({ type }) => type === 'notice')).toBe(false);
  });
});

describe('what nobody knew when this was written', () => {
  test('a kernel of years to come is tried, and works if it does', async () => {
    const l = await useLab(small);
    const before = await fragmentedFiles(l, 1);
    const { exitCode, stderr, defragmented } = await runJson(
      [l.mountPoint, '--no-state'],
      pretending('19.4.0'),
    );
    expect({ exitCode, stderr, defragmented: [...defragmented] }).toEqual({
      exitCode: EXIT.OK,
      stderr: '',
      defragmented: ['a'],
    });
    expect(await changed(l, before)).toEqual([]);
  });

  test('a compatible feature is nothing to care about', async () => {
    // Its checksum would be wrong.
    const l = await useLab({ ...small, mkfs: ['-O', '^metadata_csum'] });
    await fragmentedFiles(l, 1);
    await l.unmount();
    await toggle(l.image, COMPAT);
    await l.mount();
    const { exitCode, defragmented, events } = await runJson([l.mountPoint, '--no-state']);
    expect({ exitCode, defragmented: [...defragmented] }).toEqual({ exitCode: EXIT.OK, defragmented: ['a'] });
    expect(events[0]).toMatchObject({ type: 'target', method: 'inode-table' });
    // For e2fsck, which knows it as little.
    await l.unmount();
    await toggle(l.image, COMPAT);
  });

  test('an incompatible one that the kernel knows: the inode tables are not read, the files are found by name', async () => {
    const l = await useLab({ ...small, mkfs: ['-O', '^metadata_csum'] });
    await writeFile(l.path('whole'), randomBytes(MiB));
    const before = await fragmentedFiles(l, 1);
    await l.remount();
    // No kernel here would mount it, so it comes when it is mounted: into the buffer of the superblock.
    const device = await l.device();
    await toggle(device, INCOMPAT);
    const { exitCode, defragmented, events } = await runJson([l.mountPoint, '--no-state']);
    await toggle(device, INCOMPAT);
    expect({ exitCode, defragmented: [...defragmented] }).toEqual({ exitCode: EXIT.OK, defragmented: ['a'] });
    expect(events[0]).toMatchObject({
      method: 'walk',
      walkReason: expect.stringMatching(/features that are not known here: FEATURE_I27/) as string,
    });
    expect(await changed(l, before)).toEqual([]);
  });
});

/** Bits that mean nothing to anybody, in the superblock's words of features: their offset, and the bit. */
const COMPAT = { offset: 0x5c, bit: 27 };
const INCOMPAT = { offset: 0x60, bit: 27 };

async function toggle(path: string, { offset, bit }: { offset: number; bit: number }): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const word = Buffer.alloc(4);
    await file.read(word, 0, 4, 1024 + offset);
    word.writeUInt32LE((word.readUInt32LE() ^ (1 << bit)) >>> 0);
    await file.write(word, 0, 4, 1024 + offset);
    // The journal warns of a buffer that somebody else has made dirty.
    await file.sync();
  } finally {
    await file.close();
  }
}
