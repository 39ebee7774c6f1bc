import { describe, expect, test } from 'vitest';
import { knownBugs } from '../../lib/ext4/kernelBugs.ts';

const SMP = '#1 SMP PREEMPT_DYNAMIC';
const debian = (version: string) => `${SMP} Debian ${version} (2025-06-22)`;

describe('a kernel with known bugs', () => {
  test.each([
    ['6.1.78', SMP, ['CVE-2024-26704', '49881', '49883', '49884', 'I/O in flight', 'quota']],
    ['6.1.79', SMP, ['49881', '49883', '49884', 'I/O in flight', 'quota']],
    ['6.1.113', SMP, ['I/O in flight', 'quota']],
    ['6.1.158', SMP, ['quota']],
    ['6.7.5', SMP, ['CVE-2024-26704']],
    ['6.11.2', SMP, ['49881', '49883', '49884']],
    ['6.12.54', SMP, ['I/O in flight', 'quota']],
    ['5.10.209', SMP, ['CVE-2024-26704']],
    // The release counts changes of the interface to modules; the version tells.
    ['6.1.0-37-amd64', debian('6.1.140-1'), ['I/O in flight', 'quota']],
    ['6.12.48+deb13-cloud-amd64', debian('6.12.48-1'), ['I/O in flight', 'quota']],
    ['6.12.43+deb12-amd64', debian('6.12.43-1~bpo12+1'), ['I/O in flight', 'quota']],
  ])('%s %s: %j', (release, version, names) => {
    const text = knownBugs(release, version) ?? '';
    for (const name of names) expect(text).toContain(name);
    expect(text.split(';').filter((part) => part.includes('mended in'))).toHaveLength(
      new Set(names.map((name) => (name.startsWith('49') ? '49' : name))).size,
    );
  });

  test('is named with the version that is free of it', () => {
    expect(knownBugs('6.6.17', SMP)).toBe(
      'Linux 6.6.17 has known bugs: CVE-2024-26704 (an exchange that ends early can free blocks twice; mended in 6.6.18)',
    );
  });
});

test.each([
  // Free of all of them.
  ['6.1.160', SMP],
  ['6.12.63', SMP],
  ['6.12.117+deb13-cloud-amd64', debian('6.12.117-1')],
  ['6.1.0-50-amd64', debian('6.1.192-1')],
  // Newer than anything that is known.
  ['6.18.2', SMP],
  ['7.3.0', SMP],
  // A series of which nothing is known.
  ['6.9.1', SMP],
  // Numbers of distributors, who bring fixes into old versions.
  ['6.8.0-45-generic', '#45-Ubuntu SMP PREEMPT_DYNAMIC Fri Aug 30 12:02:04 UTC 2024'],
  ['5.14.0-427.13.1.el9_4.x86_64', '#1 SMP PREEMPT_DYNAMIC Wed Apr 10 10:29:16 EDT 2024'],
  ['6.4.0-150600.23.25-default', '#1 SMP PREEMPT_DYNAMIC'],
  ['6.1.50-custom', SMP],
  ['6.1.0-37-amd64', SMP],
  // Nothing that makes sense.
  ['', ''],
  ['six', 'Debian six'],
])('nothing false is said of %s %s', (release, version) => {
  expect(knownBugs(release, version)).toBeUndefined();
});
