import { randomBytes } from 'node:crypto';
import {
  appendFile,
  chmod,
  mkdir,
  mkdtemp,
  open,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa, type Options } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  apply,
  defragment,
  fiemap,
  mergeExtents,
  plan,
  PlanFileError,
  type ApplyEvent,
  type ApplySummary,
  type Event,
} from '../../lib/index.ts';
import { fallocate } from '../../lib/kernel/allocate.ts';
import { O } from '../../lib/kernel/handle.ts';
import { bytes } from '../../lib/layout/units.ts';
import { readPlanFile, type PlanStep } from '../../lib/plan/planFile.ts';
import { filefrag, identify, MiB, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

// The command as it is installed: compiled, in a process of its own.
const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** For plan files: not on the filesystem that they are for. */
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-apply-'));
  await chmod(folder, 0o755);
});
afterAll(() => rm(folder, { recursive: true }));

let made = 0;
const planPath = () => join(folder, `${made++}.json`);

async function collect<E extends Event>(events: AsyncIterable<E>): Promise<E[]> {
  const list: E[] = [];
  for await (const event of events) list.push(event);
  return list;
}

const command = (args: readonly string[], options: Options = {}) =>
  execa(process.execPath, [CLI, ...args], { reject: false, ...options }) as Promise<{
    exitCode: number;
    stdout: string;
    stderr: string;
  }>;

const summaryOf = (events: readonly ApplyEvent[]): ApplySummary => {
  const last = events.at(-1);
  if (last?.type !== 'summary' || last.command !== 'apply') throw new Error('no summary');
  return last;
};

/** Files of 2 MiB that were written at the same time: every other 16 KiB is another's. */
async function interleaved(l: Lab, ...names: string[]): Promise<void> {
  const [piece, pieces] = [bytes(16 * 1024), 128];
  const fds: number[] = [];
  for (const name of names) fds.push(await l.create(name));
  for (let i = 0; i < pieces; i++) {
    for (const fd of fds) await fallocate(fd, 0, bytes(i * piece), piece);
  }
  for (const name of names) {
    const file = await open(l.path(name), 'r+');
    await file.write(randomBytes(piece * pieces));
    await file.close();
  }
  await l.remount();
  for (const name of names) expect(await filefrag(l.path(name))).toBe(pieces);
}

/** Where a file lies, block for block. */
async function layout(l: Lab, name: string) {
  const fd = await l.open(name, O.RDONLY);
  return Array.from(mergeExtents(await fiemap(fd, l.blockSize)), ({ logical, physical, length }) => ({
    logical,
    physical,
    length,
  }));
}

describe('a plan', () => {
  test('is reviewed, carried out, and what it predicts is achieved, at the places that it names', async () => {
    const l = await useLab();
    await interleaved(l, 'a', 'wall', 'b');
    const before = await identify(l.path('a'));
    const path = planPath();
    const planned = await collect(plan([l.path('a'), l.path('b')], { output: path }));
    expect(planned.at(-1)).toMatchObject({ planFile: path, filesToMove: 2 });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const { kind, filesystems } = await readPlanFile(path);
    expect([kind, filesystems.length]).toEqual(['plan', 1]);
    const { steps } = filesystems[0];
    expect(steps.map((step) => step.path.toString())).toEqual(['a', 'b']);
    expect(steps[0]).toMatchObject({ size: 2 * MiB, fragmentsBefore: 128, fragmentsAfter: 1 });
    // Planning moves nothing.
    expect(await filefrag(l.path('a'))).toBe(128);

    const events = await collect(apply(path));
    const { predicted, achieved, applied } = summaryOf(events);
    expect(applied).toBe(2);
    expect(achieved).toEqual({
      ...predicted,
      savedSeconds: expect.closeTo(predicted.savedSeconds, 6) as number,
    });
    expect(achieved).toMatchObject({ fragmentsBefore: 256, fragmentsAfter: 2, bytes: 4 * MiB });
    for (const step of steps) {
      const [{ destination }] = step.ranges;
      expect(await layout(l, step.path.toString())).toEqual([
        { logical: 0, physical: destination?.start, length: destination?.length },
      ]);
    }
    expect(await identify(l.path('a'))).toEqual(before);

    // It is no plan for what lies there now.
    const again = summaryOf(await collect(apply(path)));
    expect(again).toMatchObject({ applied: 0, skipped: { 'changed-since-plan': 2 }, bytesMoved: 0 });
  });

  test('of a whole filesystem, by a user too, who opens files by name', async () => {
    const l = await useLab();
    await mkdir(l.path('dir'));
    await interleaved(l, 'dir/a\u202e', 'wall');
    const path = planPath();
    for (const name of ['.', 'dir', 'dir/a\u202e', 'wall']) {
      await execa('chown', ['65534:65534', l.path(name)]);
    }
    await collect(plan([l.mountPoint], { output: path }));
    const { steps } = (await readPlanFile(path)).filesystems[0];
    expect(new Set(steps.map((step) => step.path.toString()))).toEqual(new Set(['dir/a\u202e', 'wall']));
    expect(await readFile(path, 'utf8')).not.toContain('\u202e');
    await chmod(path, 0o644);
    await chmod(join(l.mountPoint, '..'), 0o755);
    const user = { uid: 65534, gid: 65534 };
    const { stdout, exitCode } = await command(['apply', '--json', path], user);
    expect(exitCode).toBe(0);
    const last = JSON.parse(stdout.split('\n').at(-1) ?? '') as object;
    expect(last).toMatchObject({ command: 'apply', applied: 2, achieved: { fragmentsAfter: 2 } });
  });

  test('goes on without what has changed since: written to, cut, replaced, removed', async () => {
    const l = await useLab();
    const names = ['same', 'grown', 'cut', 'replaced', 'removed', 'holed'];
    await interleaved(l, ...names);
    const path = planPath();
    await collect(plan([l.mountPoint], { output: path }));
    await appendFile(l.path('grown'), 'more');
    await truncate(l.path('cut'), MiB);
    await writeFile(l.path('new'), randomBytes(2 * MiB));
    await rename(l.path('new'), l.path('replaced'));
    await rm(l.path('removed'));
    await execa('fallocate', ['-p', '-o', '0', '-l', '65536', l.path('holed')]);
    const changed = new Map(
      await Promise.all(
        ['grown', 'cut', 'replaced', 'holed'].map(async (name) => [name, await layout(l, name)] as const),
      ),
    );
    const events = await collect(apply(path));
    const skipped = events.flatMap((event) => (event.type === 'skip' ? [event] : []));
    expect(new Set(skipped.map((event) => event.path))).toEqual(
      new Set(names.slice(1).map((name) => l.path(name))),
    );
    expect(summaryOf(events)).toMatchObject({ applied: 1, failed: 0, skipped: { 'changed-since-plan': 5 } });
    expect(await filefrag(l.path('same'))).toBe(1);
    for (const [name, there] of changed) expect(await layout(l, name)).toEqual(there);
  });

  test('whose places are taken puts files elsewhere, and says so', async () => {
    const l = await useLab();
    await interleaved(l, 'a', 'wall');
    const path = planPath();
    await collect(plan([l.path('a')], { output: path }));
    const text = await readFile(path, 'utf8');
    const [{ physical }] = await layout(l, 'wall');
    await writeFile(path, text.replace(/"start": \d+/, `"start": ${physical}`));
    const events = await collect(apply(path));
    expect(events).toContainEqual(
      expect.objectContaining({
        type: 'placement',
        step: 'elsewhere',
        reason: expect.stringMatching(/^1 of the 1 places .* not free any more$/) as string,
      }),
    );
    expect(summaryOf(events)).toMatchObject({ applied: 1, achieved: { fragmentsAfter: 1 } });
  });

  test('keeps to its budget', async () => {
    const l = await useLab();
    await interleaved(l, 'a', 'b', 'wall');
    const path = planPath();
    await collect(plan([l.path('a'), l.path('b')], { output: path }));
    const summary = summaryOf(await collect(apply(path, { maxBytes: 2 * MiB })));
    expect(summary).toMatchObject({ applied: 1, budget: { reached: 'bytes', filesLeft: 1 } });
  });

  test('is not written when the run is stopped, nor where there is something else', async () => {
    const l = await useLab();
    await interleaved(l, 'a', 'wall');
    const path = planPath();
    const stop = new AbortController();
    for await (const event of plan([l.mountPoint], { output: path, signal: stop.signal })) {
      if (event.type === 'target') stop.abort();
    }
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
    const { exitCode, stderr, stdout } = await command(['plan', '-o', '/dev/null', '--json', l.mountPoint]);
    expect(exitCode).toBe(1);
    expect(stderr).toBe('');
    const events = stdout.split('\n').map((line) => JSON.parse(line) as { type: string });
    expect(events.map(({ type }) => type)).toEqual(['failed', 'summary']);
  });
});

describe('a plan file that is not to be trusted', () => {
  test('moves nothing, names the mistake, and is exit 2; one that cannot be read is exit 1', async () => {
    const l = await useLab();
    await interleaved(l, 'a', 'wall');
    const path = planPath();
    await collect(plan([l.mountPoint], { output: path }));
    const there = await layout(l, 'a');
    const text = await readFile(path, 'utf8');
    for (const [from, to] of [
      ['"inode": 12', '"inode": 1e99'],
      ['"offset": 0', '"offset": -4096'],
      ['"schema": 1', '"schema": 99'],
      ['"path": "a"', '"path": "../../etc/passwd"'],
      ['"kind": "plan"', '"kind": "undo", "__proto__": {}'],
    ]) {
      expect(text).toContain(from);
      await writeFile(path, text.replace(from, to));
      await expect(collect(apply(path))).rejects.toThrow(PlanFileError);
    }
    const { exitCode, stderr, stdout } = await command(['apply', path]);
    expect([exitCode, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^ext4-defrag: .*\.json: __proto__ is no field of a plan file: .*$/);
    expect(await layout(l, 'a')).toEqual(there);
    const missing = await command(['apply', '--json', join(folder, 'none')]);
    expect(missing.exitCode).toBe(1);
    expect(JSON.parse(missing.stdout.split('\n').at(-1) ?? '')).toMatchObject({ type: 'summary', failed: 1 });
  });

  test('cannot make a file worse, whatever ranges and places it makes up', async () => {
    const l = await useLab();
    await interleaved(l, 'a', 'wall');
    const path = planPath();
    await collect(plan([l.path('a')], { output: path }));
    const text = await readFile(path, 'utf8');
    const before = await identify(l.path('a'));
    const there = await layout(l, 'a');
    // Parts of fragments; a fragment that stays one; the superblock's place.
    for (const [ranges, reason] of [
      ['{"offset": 4096, "length": 8192, "fragments": 2, "destination": null}', 'changed-since-plan'],
      ['{"offset": 0, "length": 16384, "fragments": 1, "destination": {"start": 0, "length": 4}}', undefined],
    ] as const) {
      await writeFile(path, text.replace(/"ranges": \[[^]*?\n {10}\]/, `"ranges": [${ranges}]`));
      const summary = summaryOf(await collect(apply(path)));
      expect(summary.applied).toBe(0);
      if (reason !== undefined) expect(summary.skipped).toEqual({ [reason]: 1 });
      expect(await layout(l, 'a')).toEqual(there);
    }
    expect(await identify(l.path('a'))).toEqual(before);
  });

  test('of a filesystem that is not mounted, or mounted twice, is exit 3; a target tells which is meant', async () => {
    const [l, other] = [await useLab(), await useLab()];
    await interleaved(l, 'a', 'wall');
    const path = planPath();
    await collect(plan([l.path('a')], { output: path }));
    const wrong = await command(['apply', path, other.mountPoint]);
    expect(wrong.exitCode).toBe(3);
    expect(wrong.stderr).toMatch(/the plan is not for this filesystem/);
    await l.unmount();
    const gone = await command(['apply', path]);
    expect(gone.exitCode).toBe(3);
    expect(gone.stderr).toMatch(/no ext4 with the UUID .* is mounted: mount it first/);
    await l.mount();
    const right = await command(['apply', path, l.path('wall')]);
    expect(right.exitCode).toBe(0);
    expect(right.stdout).toMatch(/^1 of 1 step carried out/m);
  });
});

describe('an undo file', () => {
  test('puts files back byte for byte and block for block', async () => {
    const l = await useLab();
    const names = ['a', 'wall', 'b'];
    await interleaved(l, ...names);
    const before = await Promise.all(
      names.map(async (name) => [await layout(l, name), await identify(l.path(name))]),
    );
    const path = planPath();
    const done = await collect(defragment([l.path('a'), l.path('b')], { keepUndo: path }));
    expect(done.at(-1)).toMatchObject({ defragmented: 2, undoFile: path });
    expect((await readPlanFile(path)).kind).toBe('undo');
    const events = await collect(apply(path));
    const summary = summaryOf(events);
    expect(summary).toMatchObject({ kind: 'undo', applied: 2, skipped: {} });
    expect(summary.achieved).toEqual({
      ...summary.predicted,
      savedSeconds: expect.closeTo(summary.predicted.savedSeconds, 6) as number,
    });
    expect(events.filter(({ type }) => type === 'restored')).toHaveLength(2);
    await l.remount();
    const after = await Promise.all(
      names.map(async (name) => [await layout(l, name), await identify(l.path(name))]),
    );
    expect(after).toEqual(before);
  });

  test('puts back what nobody lies beside, what was moved one after the other, and undoes the undoing', async () => {
    const l = await useLab();
    for (const name of ['a', 'b']) {
      await writeFile(l.path(name), randomBytes(MiB));
      await l.fragment(name, 16);
    }
    await l.remount();
    const before = await Promise.all(['a', 'b'].map((name) => layout(l, name)));
    const [undo, redo] = [planPath(), planPath()];
    await collect(defragment([l.path('a'), l.path('b')], { keepUndo: undo }));
    const between = await Promise.all(['a', 'b'].map((name) => layout(l, name)));
    expect(summaryOf(await collect(apply(undo, { keepUndo: redo })))).toMatchObject({ applied: 2 });
    expect(await Promise.all(['a', 'b'].map((name) => layout(l, name)))).toEqual(before);
    expect(summaryOf(await collect(apply(redo)))).toMatchObject({ applied: 2 });
    expect(await Promise.all(['a', 'b'].map((name) => layout(l, name)))).toEqual(between);
  });

  test('lets what came to lie in the place of another go first', async () => {
    const l = await useLab();
    for (const [name, size, run] of [
      ['a', 4 * MiB, 512],
      ['b', 2 * MiB, 128],
    ] as const) {
      await writeFile(l.path(name), randomBytes(size));
      // Programs are moved one by one. So few fragments need no block for a tree, which might come in the way.
      await chmod(l.path(name), 0o755);
      await l.fragment(name, run);
    }
    await l.remount();
    const before = await Promise.all(['a', 'b'].map((name) => layout(l, name)));
    const [path, undo] = [planPath(), planPath()];
    await collect(plan([l.path('a'), l.path('b')], { output: path, full: true }));
    const text = await readFile(path, 'utf8');
    const last = text.lastIndexOf('"start": ');
    const vacated = before[0][1].physical;
    await writeFile(path, text.slice(0, last) + text.slice(last).replace(/\d+/, String(vacated)));
    expect(summaryOf(await collect(apply(path, { keepUndo: undo })))).toMatchObject({ applied: 2 });
    expect((await layout(l, 'b'))[0].physical).toBe(vacated);
    const events = await collect(apply(undo));
    // The allocator may have reserved what was vacated for small files (fs/ext4/mballoc.c, locality groups), so that a
    // finds its place taken all the same; but not by b.
    const order = events.flatMap((event) =>
      event.type === 'restored' || event.type === 'skip' ? [event.path] : [],
    );
    expect(order).toEqual([l.path('b'), l.path('a')]);
    expect(await layout(l, 'b')).toEqual(before[1]);
  });

  test('leaves files alone that have changed, or whose old places are in use', async () => {
    const l = await useLab();
    await interleaved(l, 'a', 'wall', 'b');
    const path = planPath();
    await collect(defragment([l.path('a'), l.path('b')], { keepUndo: path }));
    await appendFile(l.path('a'), 'more');
    const { steps } = (await readPlanFile(path)).filesystems[0];
    const there = await layout(l, 'b');
    // As if the wall had come to lie where a piece of b lay.
    const [{ physical }] = await layout(l, 'wall');
    const text = await readFile(path, 'utf8');
    const piece = text.lastIndexOf('"start": ');
    await writeFile(path, text.slice(0, piece) + text.slice(piece).replace(/\d+/, String(physical)));
    const events = await collect(apply(path));
    expect(summaryOf(events)).toMatchObject({
      applied: 0,
      skipped: { 'changed-since-plan': 1, 'place-taken': 1 },
      failed: 0,
      predicted: { files: steps.length },
    });
    expect(await layout(l, 'b')).toEqual(there);
  });

  test('is not begun where a file is, and not written when nothing was moved', async () => {
    const l = await useLab();
    await interleaved(l, 'a', 'wall');
    const path = planPath();
    await writeFile(path, 'mine');
    const { exitCode, stderr } = await command(['--no-state', '--keep-undo', path, l.path('a')]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/an undo file is not replaced/);
    expect(await readFile(path, 'utf8')).toBe('mine');
    expect(await filefrag(l.path('a'))).toBe(128);
    const other = planPath();
    await writeFile(l.path('whole'), randomBytes(MiB));
    const [last] = (await collect(defragment([l.path('whole')], { keepUndo: other }))).slice(-1);
    expect(last).not.toHaveProperty('undoFile');
    await expect(stat(other)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('holds what was done when the run is left early', async () => {
    const l = await useLab();
    await interleaved(l, 'a', 'wall', 'b');
    const path = planPath();
    for await (const event of defragment([l.path('a'), l.path('b')], { keepUndo: path })) {
      if (event.type === 'defragmented') break;
    }
    const { steps } = (await readPlanFile(path)).filesystems[0];
    expect(steps.map((step: PlanStep) => step.path.toString())).toEqual(['a']);
  });
});
