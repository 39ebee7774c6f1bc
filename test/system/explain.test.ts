import { randomBytes } from 'node:crypto';
import { chmod, chown, copyFile, mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { defragment, explain, type ExplainOptions } from '../../lib/index.ts';
import type { ExplainEvent, ExplainingEvent } from '../../lib/report/events.ts';
import { textReporter } from '../support/text.ts';
import { NO_COLOURS } from '../../lib/report/style.ts';
import { as, NOBODY } from '../support/as.ts';
import { filefrag, identify, MiB, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

async function explained(...paths: string[]): Promise<ExplainingEvent[]> {
  const events: ExplainingEvent[] = [];
  for await (const event of explain(paths)) events.push(event);
  return events;
}

async function explanation(path: string): Promise<ExplainEvent> {
  const found = (await explained(path)).find((event) => event.type === 'explain');
  if (found === undefined) throw new Error(`${path} is not explained`);
  return found;
}

async function fragmented(l: Lab, name: string, size = 2 * MiB): Promise<string> {
  await writeFile(l.path(name), randomBytes(size));
  await l.fragment(name, 4);
  return l.path(name);
}

const inTheWay = async (path: string) =>
  (await explanation(path)).inTheWay.map(({ reason, prevents }) => [reason, prevents]);

describe('explain', () => {
  test('says what a move would cost and gain, and changes nothing', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    const [before, fragments] = [await identify(path), await filefrag(path)];
    const event = await explanation(path);
    expect(event).toMatchObject({
      size: 2 * MiB,
      bytes: 2 * MiB,
      fragments,
      idealFragments: 1,
      inTheWay: [],
      move: { bytesToMove: 2 * MiB, fragmentsBefore: fragments, fragmentsAfter: 1, pieces: 1 },
    });
    expect(event.extents.reduce((sum, { length }) => sum + length, 0)).toBe(2 * MiB);
    expect(event.extents.at(-1)?.fragment).toBe(fragments);
    const { costSeconds = 0, savedSeconds = 0, readsToRegain } = event.move ?? {};
    expect(costSeconds).toBeGreaterThan(0);
    expect(readsToRegain).toBe(Math.ceil(costSeconds / savedSeconds));
    expect(await identify(path)).toEqual(before);
    expect(await filefrag(path)).toBe(fragments);
  });

  test('says why something is not worth moving, or has no layout', async () => {
    const l = await useLab();
    await writeFile(l.path('whole'), randomBytes(MiB));
    await writeFile(l.path('empty'), '');
    await execa('sync', ['-f', l.mountPoint]);
    const events = await explained(l.path('whole'), l.path('empty'), l.mountPoint, l.path('none'));
    expect(events.find((event) => event.type === 'explain')).toMatchObject({
      notWorth: 'already-contiguous',
    });
    expect(events).toContainEqual({ type: 'skip', path: l.path('empty'), reason: 'empty' });
    expect(events.filter(({ type }) => type === 'unsupported')).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ files: 1, worthMoving: 0, skipped: { empty: 1 }, failed: 1 });
  });

  test('names all attributes that stand in the way', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    await execa('chattr', ['+ai', path]);
    expect(await inTheWay(path)).toEqual([
      ['immutable', true],
      ['append-only', true],
    ]);
    await execa('chattr', ['-ai', path]);
    expect(await inTheWay(path)).toEqual([]);
  });

  test('names who has it open, maps it, executes it', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    await copyFile('/bin/sleep', l.path('program'));
    await chmod(l.path('program'), 0o755);
    const holder = execa('tail', ['-f', path], { reject: false, stdout: 'ignore' });
    const runner = execa(l.path('program'), ['60'], { reject: false });
    try {
      await expect.poll(() => inTheWay(path), { timeout: 20_000 }).toEqual([[undefined, false]]);
      const [{ message }] = (await explanation(path)).inTheWay;
      expect(message).toContain(`tail (process ${holder.pid})`);
      await expect
        .poll(() => inTheWay(l.path('program')), { timeout: 20_000 })
        .toContainEqual(['running', true]);
      const events = await explained(path, l.path('program'));
      expect(events.at(-1)).toMatchObject({ files: 2, worthMoving: 1, movable: 1 });
    } finally {
      holder.kill();
      runner.kill();
      await Promise.all([holder, runner]);
    }
  });

  test('says what earlier runs learned of it, and that a run would leave it alone', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'log');
    const state = `${l.image}.state`;
    const events = async (options: ExplainOptions) => {
      const all: ExplainingEvent[] = [];
      for await (const event of explain([path], options)) all.push(event);
      return all;
    };
    const round = async () => {
      for await (const event of defragment([path], { state })) {
        if (event.type === 'summary') expect(event.defragmented).toBe(1);
      }
      await l.fragment('log', 4);
    };
    expect(await events({ state })).not.toContainEqual(expect.objectContaining({ type: 'notice' }));
    await round();
    const once = (await events({ state })).find((event) => event.type === 'explain');
    expect(once).toMatchObject({
      history: { fragmentsBefore: 128, fragmentsAfter: 1, fruitless: 1 },
      inTheWay: [],
    });
    expect(Math.abs(Date.now() - Date.parse(once!.history!.movedAt))).toBeLessThan(600_000);
    await round();
    await round();
    const often = await events({ state });
    expect(often.find((event) => event.type === 'explain')).toMatchObject({
      history: { fruitless: 3 },
      inTheWay: [{ prevents: true, reason: 'fragments-again' }],
    });
    expect(often.at(-1)).toMatchObject({ worthMoving: 1, movable: 0 });
    // A run does as it says.
    for await (const event of defragment([path], { state })) {
      if (event.type === 'summary') expect(event.skipped).toEqual({ 'fragments-again': 1 });
    }
    expect((await events({})).find((event) => event.type === 'explain')).not.toHaveProperty('history');
    const kept = await readFile(state);

    const command = async (...options: string[]) =>
      execa(process.execPath, [CLI, 'explain', ...options, path]);
    const { stdout } = await command('--state', state);
    expect(stdout).toMatch(
      /^Last moved {8}\d{4}-\d\d-\d\d, 128 -> 1 fragment; 3 moves in a row did not last$/m,
    );
    expect(stdout).toMatch(/^Prevented: it fragments again soon after it is moved; .*--ignore-history/m);
    expect((await command('--no-state')).stdout).not.toMatch(/Last moved|fragments again/);
    expect(await readFile(state)).toEqual(kept);

    await writeFile(state, 'something else');
    const { stderr } = await command('--state', state);
    expect(stderr).toBe(`ext4-defrag: note: what earlier runs left in "${state}" is none`);
  });

  test('of a filesystem that is refused it says so', async () => {
    const l = await useLab({ mkfs: ['-O', '^has_journal'] });
    const path = await fragmented(l, 'file');
    const [obstacle] = (await explanation(path)).inTheWay;
    expect(obstacle).toMatchObject({ prevents: true });
    expect(obstacle.message).toMatch(/the filesystem: it has no journal.*--allow-no-journal/);
  });

  test('where free space is short it says what is to be had', async () => {
    const l = await useLab({ size: 64 * MiB });
    const path = await fragmented(l, 'file', 8 * MiB);
    await writeFile(l.path('filler'), '');
    const free = await l.freeBytes();
    await execa('fallocate', ['-l', String(free - 4 * MiB), l.path('filler')]);
    const event = await explanation(path);
    expect(event.move?.pieces).toBeNull();
    expect(event.inTheWay).toMatchObject([{ reason: 'no-space' }]);
    await truncate(l.path('filler'), 0);
    await execa('sync', ['-f', l.mountPoint]);
    expect(await inTheWay(path)).toEqual([]);
  });

  test('without privileges it says what may be read, and what that user may not do', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    await chmod(path, 0o644);
    await mkdir(l.path('own'));
    await chown(l.path('own'), NOBODY, NOBODY);
    await (await open(l.path('own/secret'), 'w', 0o600)).close();
    await writeFile(l.path('own/secret'), randomBytes(MiB));
    await execa('sync', ['-f', l.mountPoint]);
    await chmod(l.path('..'), 0o755);
    const { stdout, exitCode, stderr } = await execa(
      'setpriv',
      [
        `--reuid=${NOBODY}`,
        `--regid=${NOBODY}`,
        '--clear-groups',
        process.execPath,
        CLI,
        'explain',
        path,
        l.path('own/secret'),
      ],
      { reject: false },
    );
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toContain('Worth moving:');
    expect(stdout).toMatch(/Prevented: this user may not write to it; run as its owner or as root\./);
    expect(stdout).toMatch(/secret: left alone: permission denied/);
    await as(NOBODY, async () => expect(await explained(path)).toHaveLength(3));
  });

  test('the text lists extents, all of them with --verbose', async () => {
    const l = await useLab();
    const path = await fragmented(l, 'file');
    const text = async (verbose: boolean) => {
      const reporter = textReporter('explain', { verbose, style: NO_COLOURS, errorStyle: NO_COLOURS });
      const lines = [];
      for (const event of await explained(path)) lines.push(...reporter.lines(event));
      return lines.map(({ text }) => text);
    };
    const short = await text(false);
    expect(short).toContain('112 more extents; -v lists them all.');
    expect(short.slice(-6)).toEqual([
      'Worth moving:',
      'Move              2.0 MiB in 1 range: 128 -> 1 fragment',
      expect.stringMatching(/^Cost {14}reads and writes 2\.0 MiB, about [\d.]+ m?s of the device$/),
      expect.stringMatching(
        /^Gain {14}about [\d.]+ m?s of each read from start to end; regained after \d+ reads?$/,
      ),
      expect.stringMatching(/^Place {13}fits; the longest free run is of [\d.]+ MiB$/),
      'In the way        nothing',
    ]);
    expect((await text(true)).length).toBe(short.length + 112 - 1);
  });
});
