// stress-ng's stressors that work on files and check what they find, while a defragmenter moves these files.
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, onTestFailed, test } from 'vitest';
import { MiB } from '../support/lab.ts';
import { useLab } from '../support/use.ts';
import { describeMoved, imagesInMemory, SECONDS, SEED, timeout, whileMoving } from './support.ts';

/** test/support/linger.c: stress-ng unlinks most of its files at once, and the defragmenter would not find them. */
const LINGER = fileURLToPath(new URL('../../build/test/linger', import.meta.url));

/** Of its class of filesystem stressors those that have files with content, and of others those that do so in files. */
const STRESSORS = [
  ...['aio', 'chattr', 'copy-file', 'fallocate', 'fiemap', 'fpunch', 'hdd', 'iomix', 'lease', 'locka'],
  ...['readahead', 'rename', 'revio', 'seek', 'sendfile', 'sync-file', 'utime'],
];

/** What `iomix` makes immutable for a moment it cannot unlink when its time ends then, and its folder stays. */
const WITHOUT_IMMUTABLE = ['setpriv', '--bounding-set=-linux_immutable'] as const;

/** Those that would make longer files. */
const SIZES = {
  'copy-file-bytes': '128M',
  'fallocate-bytes': '32M',
  'fiemap-bytes': '16M',
  'hdd-bytes': '16M',
  'iomix-bytes': '16M',
  'readahead-bytes': '16M',
  'revio-bytes': '16M',
  'seek-size': '16M',
  'sync-file-bytes': '16M',
};

test('stress-ng finds nothing wrong', { timeout: timeout(SECONDS) }, async () => {
  imagesInMemory();
  onTestFailed(() => console.log(`EXT4_DEFRAG_TORTURE_SEED=${SEED}`));
  const lab = await useLab({ size: 2048 * MiB });
  const folder = lab.path('stress');
  mkdirSync(folder);
  const args = [
    ...['--temp-path', folder, '--verify', '--timeout', `${SECONDS}s`, '--metrics-brief'],
    ...STRESSORS.flatMap((name) => [`--${name}`, '1']),
    ...Object.entries(SIZES).flatMap(([name, size]) => [`--${name}`, size]),
  ];
  const [program, ...words] = [...WITHOUT_IMMUTABLE, 'stress-ng', ...args];
  const { result, moved } = await whileMoving(lab.mountPoint, folder, () =>
    execa(program, words, { env: { LD_PRELOAD: LINGER }, all: true, reject: false }),
  );
  const { all, exitCode } = result;
  expect(all.split('\n').filter((line) => /fail|error/i.test(line))).toEqual([]);
  expect(exitCode, all).toBe(0);
  expect(moved.failures).toEqual([]);
  const operations = [...all.matchAll(/^stress-ng: metrc: \[\d+\] (\S+) +(\d+)(?: +[\d.]+){5}$/gm)];
  const done = Object.fromEntries(operations.map(([, name, count]) => [name, Number(count)]));
  console.log(`${JSON.stringify(done)}; ${describeMoved(moved)}`);
  expect(operations.length).toBe(STRESSORS.length);
  expect(moved.bytesMoved).toBeGreaterThan(0);
});
