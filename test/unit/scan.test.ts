import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SparseInodeSet } from '../../lib/scan/inodeSet.ts';
import { parseKernelVersion, refusal, type SafetyFacts } from '../../lib/ext4/safety.ts';
import { COMPAT, INCOMPAT, RO_COMPAT } from '../../lib/ext4/superblock.ts';
import { INODE_FLAG } from '../../lib/kernel/handle.ts';
import { bytes } from '../../lib/layout/units.ts';
import { named } from '../../lib/report/events.ts';
import { immovable, outsideLimits, withoutLayout } from '../../lib/scan/eligibility.ts';
import { excludeMatcher } from '../../lib/scan/exclude.ts';
import { deviceName, mountOf, mountsBelow, parseMounts } from '../../lib/scan/mounts.ts';
import { join } from '../../lib/scan/targets.ts';

describe('mountinfo', () => {
  const text = Buffer.from(
    [
      '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw',
      '40 22 7:3 /sub /mnt/bind\\040mount rw - ext4 /dev/loop3 rw',
      '41 22 7:3 / /mnt/caf\xe9 rw,noatime master:2 propagate_from:1 - ext4 /dev/loop3 ro,data=writeback',
      '42 22 0:30 / /run rw - tmpfs tmpfs rw',
      '',
    ].join('\n'),
    'latin1',
  );

  test('fields, escapes and bytes that are not UTF-8', () => {
    const mounts = parseMounts(text);
    expect(mounts).toHaveLength(4);
    expect(mounts[1]).toMatchObject({ device: '7:3', type: 'ext4', source: '/dev/loop3', readOnly: false });
    expect(mounts[1].mountPoint.toString()).toBe('/mnt/bind mount');
    expect(mounts[2].mountPoint.toString('latin1')).toBe('/mnt/caf\xe9');
    expect(mounts[2].readOnly).toBe(true);
  });

  test('the mount of the whole filesystem goes before a bind mount', () => {
    expect(mountOf(parseMounts(text), '7:3')?.root.toString()).toBe('/');
    expect(mountOf(parseMounts(text), '9:9')).toBeUndefined();
  });

  test('device numbers are split as glibc does', () => {
    expect(deviceName(0x0703n)).toBe('7:3');
    expect(deviceName(0x1234567800abcdef0n & 0xffff_ffff_ffff_ffffn)).toMatch(/^\d+:\d+$/);
    expect(deviceName((259n << 8n) | (300n & 0xffn) | ((300n & ~0xffn) << 12n))).toBe('259:300');
  });
});

describe('safety', () => {
  const facts = (changes: Partial<SafetyFacts> = {}): SafetyFacts => ({
    readOnly: false,
    options: new Set(['rw', 'data=ordered']),
    features: { compat: COMPAT.HAS_JOURNAL, incompat: INCOMPAT.EXTENT, roCompat: 0 },
    fastCommit: undefined,
    kernel: parseKernelVersion('6.12.117+deb13-cloud-amd64'),
    ...changes,
  });
  const none = { allowFastCommit: false, allowNoJournal: false };
  const features = (compat: number, roCompat = 0) => ({ compat, incompat: INCOMPAT.EXTENT, roCompat });

  test('an ordinary ext4 is not refused', () => expect(refusal(facts(), none)).toBeUndefined());

  test.each([
    ['read-only', { readOnly: true }],
    ['bigalloc', { features: features(COMPAT.HAS_JOURNAL, RO_COMPAT.BIGALLOC) }],
    ['no extents', { features: { ...features(COMPAT.HAS_JOURNAL), incompat: 0 } }],
    ['data=journal', { options: new Set(['data=journal']) }],
    ['dax', { options: new Set(['data=ordered', 'dax=always']) }],
    ['no journal', { features: features(0) }],
    ['no journal', { features: undefined, options: new Set(['rw']), fastCommit: false }],
    ['unknown', { features: undefined, options: undefined }],
    ['fast_commit', { features: features(COMPAT.HAS_JOURNAL | COMPAT.FAST_COMMIT) }],
    ['fast_commit', { features: undefined, fastCommit: true }],
    ['fast_commit', { features: undefined, fastCommit: undefined }],
  ])('%s is refused by name', (name, changes) => {
    expect(refusal(facts(changes), none)).toContain(name);
  });

  test('what only risks something can be overridden, the rest cannot', () => {
    const all = { allowFastCommit: true, allowNoJournal: true };
    expect(refusal(facts({ features: features(0) }), all)).toBeUndefined();
    expect(
      refusal(facts({ features: features(COMPAT.HAS_JOURNAL | COMPAT.FAST_COMMIT) }), all),
    ).toBeUndefined();
    expect(refusal(facts({ readOnly: true }), all)).toBeDefined();
    expect(refusal(facts({ features: features(COMPAT.HAS_JOURNAL, RO_COMPAT.BIGALLOC) }), all)).toBeDefined();
  });

  test('fast_commit is safe from Linux 7.0 on', () => {
    const changes = { features: features(COMPAT.HAS_JOURNAL | COMPAT.FAST_COMMIT) };
    expect(refusal(facts({ ...changes, kernel: { major: 7, minor: 0 } }), none)).toBeUndefined();
    expect(refusal(facts({ ...changes, kernel: { major: 6, minor: 19 } }), none)).toBeDefined();
  });
});

describe('eligibility', () => {
  const inode = { regular: true, size: bytes(8192), hasBlocks: true, flags: INODE_FLAG.EXTENTS, swap: false };

  test('an ordinary file has a layout and may be moved', () => {
    expect(withoutLayout(inode)).toBeUndefined();
    expect(immovable(inode)).toBeUndefined();
  });

  test.each([
    ['not-regular', { regular: false }],
    ['empty', { size: bytes(0) }],
    ['no-blocks', { hasBlocks: false }],
    ['inline-data', { flags: INODE_FLAG.INLINE_DATA, hasBlocks: false }],
  ])('%s', (reason, changes) => expect(withoutLayout({ ...inode, ...changes })).toBe(reason));

  test.each([
    ['no-extents', 0],
    ['immutable', INODE_FLAG.EXTENTS | INODE_FLAG.IMMUTABLE],
    ['append-only', INODE_FLAG.EXTENTS | INODE_FLAG.APPEND],
    ['encrypted', INODE_FLAG.EXTENTS | INODE_FLAG.ENCRYPT],
    ['verity', INODE_FLAG.EXTENTS | INODE_FLAG.VERITY],
    ['journalled-data', INODE_FLAG.EXTENTS | INODE_FLAG.JOURNAL_DATA],
    ['dax', INODE_FLAG.EXTENTS | INODE_FLAG.DAX],
  ])('%s', (reason, flags) => expect(immovable({ ...inode, flags })).toBe(reason));

  test('swap files', () => expect(immovable({ ...inode, swap: true })).toBe('swap-file'));

  test('size limits include their bounds', () => {
    const limits = { minSize: bytes(10), maxSize: bytes(20) };
    expect([9, 10, 20, 21].map((size) => outsideLimits(bytes(size), limits))).toEqual([
      'too-small',
      undefined,
      undefined,
      'too-large',
    ]);
  });
});

describe('--exclude', () => {
  const matches = (patterns: string[], path: string) => excludeMatcher(patterns)(Buffer.from(path));

  test('a name matches at any depth, dot files too', () => {
    expect(matches(['*.log'], 'a/b/c.log')).toBe(true);
    expect(matches(['*.log'], '.hidden.log')).toBe(true);
    expect(matches(['*.log'], 'a.log/b')).toBe(false);
  });

  test('a path matches from the target on', () => {
    expect(matches(['var/log'], 'var/log')).toBe(true);
    expect(matches(['/var/*'], 'var/cache')).toBe(true);
    expect(matches(['var/log'], 'x/var/log')).toBe(false);
    expect(matches(['**/cache/'], 'a/b/cache')).toBe(true);
  });

  test('no pattern matches nothing', () => expect(matches([], 'anything')).toBe(false));
});

test('paths are bytes: joined, and named with what UTF-8 lost', () => {
  const name = Buffer.from([0x66, 0xff, 0x6f]);
  expect(join(Buffer.from('/'), name)).toEqual(Buffer.from([0x2f, 0x66, 0xff, 0x6f]));
  expect(join(Buffer.from('/a'), name).toString('latin1')).toBe('/a/f\xffo');
  expect(named(Buffer.from('plain'))).toEqual({ path: 'plain' });
  expect(named(name)).toEqual({ path: 'f\ufffdo', pathBytes: name });
});

test('a set of inodes of unknown number answers what is new', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat({ max: 2 ** 32 - 1 }).chain((n) => fc.constantFrom(n, n % 7, 2 ** 31))),
      (inodes) => {
        const [set, model] = [new SparseInodeSet(), new Set<number>()];
        for (const inode of inodes) {
          expect(set.add(inode)).toBe(!model.has(inode));
          model.add(inode);
        }
      },
    ),
  );
});

test('mounts below a directory are paths below it', () => {
  const line = (point: string) => `36 35 8:1 / ${point} rw - autofs systemd-1 rw`;
  const mounts = parseMounts(
    Buffer.from(['/', '/srv', '/srv/nas', '/srv/a\\040b/c', '/srvx'].map(line).join('\n')),
  );
  expect(mountsBelow(mounts, Buffer.from('/srv'))).toEqual(new Set(['nas', 'a b/c']));
  expect(mountsBelow(mounts, Buffer.from('/'))).toEqual(new Set(['', 'srv', 'srv/nas', 'srv/a b/c', 'srvx']));
});
