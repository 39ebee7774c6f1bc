import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { defragment } from '../../lib/index.ts';
import { IN_VM, MiB } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

// test/support/writer.c, compiled by test/support/build.mjs: it knows what the file must contain and compares.
const WRITER = fileURLToPath(new URL('../../build/test/writer', import.meta.url));
const SECONDS = Number(process.env.EXT4_DEFRAG_TEST_SECONDS ?? 3);

function write(mode: string, path: string, seed: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(WRITER, [mode, path, String(seed), String(SECONDS * 1000)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(output.trim());
      else reject(new Error(`writer ${mode}: ${output.trim()} (exit ${code})`));
    });
  });
}

// The cases of the 2009 review, each on whole-page and on smaller blocks.
const CASES = [
  { mode: 'overwrite', what: 'overwrites random bytes and syncs now and then' },
  { mode: 'append', what: 'appends, so that allocations are pending' },
  { mode: 'truncate', what: 'truncates and extends' },
  { mode: 'mapped', what: 'reads and writes through a shared mapping' },
  { mode: 'recreate', what: 'unlinks and recreates the file' },
  { mode: 'direct', what: 'reads and writes with O_DIRECT' },
  { mode: 'mixed', what: 'overwrites, appends and truncates in turn' },
];

describe.each([{ blockSize: 4096 }, { blockSize: 1024 }])('blocks of $blockSize', ({ blockSize }) => {
  // What smaller blocks add is tried there by the one that does a little of everything.
  test.each(CASES.filter(({ mode }) => !IN_VM || blockSize === 4096 || mode === 'mixed'))(
    'no byte is lost while another process $what',
    async ({ mode }) => {
      const l = await useLab({ blockSize, size: 768 * MiB });
      const path = l.path('busy');
      await writeFile(path, randomBytes(IN_VM ? 6 * MiB : 24 * MiB));
      let writing = true;
      let moved = 0;
      let busy = 0;
      const failures: unknown[] = [];
      const writer = write(mode, path, blockSize).finally(() => (writing = false));
      // The loop ends when the writer does; a rejected writer is awaited below.
      writer.catch(() => undefined);
      while (writing) {
        await l.fragment('busy', 16384 / blockSize).catch((error: unknown) => {
          // The file may be shorter by now, or another one.
          if (!['EINVAL', 'EBUSY', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? ''))
            throw error;
        });
        for await (const event of defragment([path], { full: true })) {
          if (event.type === 'summary') {
            moved += event.bytesMoved;
            busy += event.skipped.busy ?? 0;
          }
          if (event.type === 'failed' && event.code !== 'ENOENT') failures.push(event);
        }
      }
      expect(await writer).toMatch(/^\d+ operations$/);
      expect(failures).toEqual([]);
      // A test in which nothing moved would prove nothing. But on Linux 6.16 to 6.18 a file all of whose pages are mapped
      // is left alone when the kernel turns out to commit for each of them.
      expect(mode === 'mapped' ? moved + busy : moved).toBeGreaterThan(0);
    },
  );
});
