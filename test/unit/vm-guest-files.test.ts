import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dependencies } from '../../vm/apt.ts';
import { parseLdd } from '../../vm/base.ts';
import { cpio, fileMode, folderMode } from '../../vm/cpio.ts';
import { guestEnvironment, jobScript } from '../../vm/job.ts';
import { loadOrder } from '../../vm/modules.ts';
import { qemuArguments, type Machine } from '../../vm/qemu.ts';

describe('the order of modules', () => {
  const dep = [
    'kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko kernel/lib/crc16.ko',
    'kernel/fs/jbd2/jbd2.ko:',
    'kernel/fs/mbcache.ko:',
    'kernel/lib/crc16.ko:',
    'kernel/drivers/virtio/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz',
    'kernel/drivers/virtio/virtio.ko.xz:',
    'kernel/drivers/net/loop-a.ko: kernel/drivers/net/loop-b.ko',
    'kernel/drivers/net/loop-b.ko: kernel/drivers/net/loop-a.ko',
    '',
  ].join('\n');

  test('what a module needs comes before it, once', () => {
    expect(loadOrder(dep, ['ext4', 'jbd2', 'virtio-blk'])).toEqual([
      'kernel/fs/jbd2/jbd2.ko',
      'kernel/fs/mbcache.ko',
      'kernel/lib/crc16.ko',
      'kernel/fs/ext4/ext4.ko',
      'kernel/drivers/virtio/virtio.ko.xz',
      'kernel/drivers/virtio/virtio_blk.ko.xz',
    ]);
  });

  test('what is built in, or does not exist, is left out', () => {
    expect(loadOrder(dep, ['virtio_console', 'crc16'])).toEqual(['kernel/lib/crc16.ko']);
  });

  test('modules that need each other end', () => {
    expect(loadOrder(dep, ['loop_a'])).toHaveLength(2);
  });
});

test('the libraries of a program', () => {
  const text = [
    '/usr/bin/node:',
    '\tlinux-vdso.so.1 (0x00007f75ff70f000)',
    '\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f75ff13e000)',
    '\t/lib64/ld-linux-x86-64.so.2 (0x00007f75ff711000)',
    '/usr/bin/bash:',
    '\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1111111000)',
    '\tlibgone.so => not found',
    '/usr/bin/script:',
    '\tnot a dynamic executable',
  ].join('\n');
  expect(parseLdd(text)).toEqual(['/lib/x86_64-linux-gnu/libc.so.6', '/lib64/ld-linux-x86-64.so.2']);
});

test('the packages behind a meta package', () => {
  const record =
    'Package: linux-image-cloud-amd64\nPre-Depends: linux-image-1\n' +
    'Depends: linux-image-6.12.1-cloud-amd64 (= 6.12.1-1), kmod | linux-modules-6.12.1, linux-base:any\n';
  expect(dependencies(record, /^linux-(image|modules|base)-\d/)).toEqual([
    'linux-image-6.12.1-cloud-amd64',
    'linux-modules-6.12.1',
  ]);
  expect(dependencies('Package: x\n', /./)).toEqual([]);
});

describe('the initramfs archive', () => {
  /** Reads an archive as the kernel does: by the lengths in each header. */
  function read(archive: Buffer): { path: string; mode: number; data: string }[] {
    const found = [];
    let at = 0;
    for (;;) {
      const field = (index: number) =>
        parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
      expect(archive.toString('latin1', at, at + 6)).toBe('070701');
      const [mode, size, nameSize] = [field(1), field(6), field(11)];
      const path = archive.toString('utf8', at + 110, at + 110 + nameSize - 1);
      const start = at + Math.ceil((110 + nameSize) / 4) * 4;
      if (path === 'TRAILER!!!') return found;
      found.push({ path, mode, data: archive.toString('utf8', start, start + size) });
      at = start + Math.ceil(size / 4) * 4;
    }
  }

  test('is read back as it was written', () => {
    const entry = fc.record({
      path: fc.stringMatching(/^[a-z/]{1,20}$/),
      mode: fc.constantFrom(fileMode, folderMode),
      data: fc.string({ unit: 'grapheme' }),
    });
    fc.assert(
      fc.property(fc.array(entry), (entries) => {
        expect(read(cpio(entries))).toEqual(entries);
      }),
    );
  });
});

describe('the job', () => {
  test('arguments and variables arrive as they are', () => {
    const argument = fc
      .string({ unit: 'binary' })
      .filter((text) => !text.includes('\0') && !/[\ud800-\udfff]/.test(text));
    fc.assert(
      fc.property(fc.array(argument, { minLength: 2 }), argument, ([first = '', ...others], value) => {
        const script = jobScript(['/usr/bin/printf', '%s\\0', first, ...others, '$VALUE'], { VALUE: value });
        const output = execFileSync('/bin/sh', ['-c', script.replace('cd /project\n', '')], {
          encoding: 'utf8',
        });
        expect(output).toBe(`${[first, ...others, '$VALUE'].join('\0')}\0`);
      }),
      { numRuns: 30 },
    );
  });

  test('one word is a line for the shell', () => {
    const script = jobScript(['echo "$A"; exit 3'], { A: "it's" }).replace('cd /project\n', '');
    expect(() => execFileSync('/bin/sh', ['-c', script], { stdio: 'ignore' })).toThrow(
      expect.objectContaining({ status: 3 }) as Error,
    );
  });

  test('a given variable wins', () => {
    expect(guestEnvironment('6.1', { TMPDIR: '/tmp' })).toMatchObject({
      TMPDIR: '/tmp',
      CI: '1',
      EXT4_DEFRAG_IN_VM: '6.1',
    });
  });
});

test("QEMU's arguments", () => {
  const kernel = { release: 'r', image: '/k', modules: '/m', modulesDisk: '/d' };
  const disks = [
    { serial: 'base', file: '/a,b', discardWrites: true },
    { serial: 'scratch', file: '/s', discardWrites: false },
  ];
  const machine: Machine = { accelerator: 'tcg', kernel, initrd: '/i', memory: 512, disks };
  const args = qemuArguments(machine).join(' ');
  expect(args).toContain('id=base,file=/a,,b,');
  expect(args).toMatch(/file=\/a,,b,\S*snapshot=on/);
  expect(args).toMatch(/file=\/s,\S*snapshot=off/);
  // The other processors start late only where they are emulated.
  expect(args).toContain('maxcpus=1');
  expect(qemuArguments({ ...machine, accelerator: 'kvm' }).join(' ')).not.toContain('maxcpus=1');
});
