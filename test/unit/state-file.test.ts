import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { mkdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { SystemError } from '../../lib/kernel/errors.ts';
import { MOST_RECORDS } from '../../lib/state/history.ts';
import { defaultStatePath, RunState } from '../../lib/state/runState.ts';

/** What happens before a new state file gets its name. */
const renaming = vi.hoisted(() => ({ before: undefined as ((from: string) => Promise<void>) | undefined }));

vi.mock(import('node:fs/promises'), async (original) => {
  const fs = await original();
  const rename: typeof fs.rename = async (from, to) => {
    await renaming.before?.(String(from));
    await fs.rename(from, to);
  };
  return { ...fs, rename };
});

const DAY = 24 * 3600 * 1000;
const NOW = Date.UTC(2026, 0, 1);
const UUID = '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0';
const OTHER = '00000000-0000-0000-0000-000000000001';

const file = (inode: number, generation = 7) => ({ inode, generation });
const moved = (inode: number, fragmentsBefore = 101, fragmentsAfter = 1) => ({
  ...file(inode),
  fragmentsBefore,
  fragmentsAfter,
});

let folder: string;
let path: string;
const open = (now = NOW, uuid = UUID) => RunState.open(path, uuid, now);

beforeEach(() => {
  renaming.before = undefined;
  folder = mkdtempSync(join(tmpdir(), 'ext4-defrag-state-'));
  path = join(folder, 'state.json');
});
afterEach(() => rmSync(folder, { recursive: true }));

test('without a file there is nothing, and nothing wrong', async () => {
  const state = await open();
  expect(state.ignored).toBeUndefined();
  expect(state.continues).toBe(false);
  expect(state.history.size).toBe(0);
  expect(readdirSync(folder)).toEqual([]);
});

test('a run that was ended before its end is continued, whatever its own files do', async () => {
  const first = await open();
  first.done(file(12));
  expect(first.isDone(file(12))).toBe(false);
  await first.save(false, NOW + 1);

  const second = await open(NOW + DAY);
  expect(second.continues).toBe(true);
  expect([file(12), file(12, 8), file(13)].map((each) => second.isDone(each))).toEqual([true, false, false]);
  second.done(file(13));
  expect(second.isDone(file(13))).toBe(false);
  await second.save(false, NOW + DAY);

  const third = await open(NOW + 2 * DAY);
  expect([file(12), file(13)].map((each) => third.isDone(each))).toEqual([true, true]);
  third.done(file(14));
  await third.save(true, NOW + 2 * DAY);

  const fourth = await open(NOW + 3 * DAY);
  expect(fourth.continues).toBe(false);
  expect(fourth.isDone(file(12))).toBe(false);
});

test('a cycle is as old as its first run, and ends after thirty days', async () => {
  await (await open()).save(false, NOW);
  const second = await open(NOW + 20 * DAY);
  second.done(file(12));
  await second.save(false, NOW + 20 * DAY);
  expect((await open(NOW + 30 * DAY - 1)).isDone(file(12))).toBe(true);
  const late = await open(NOW + 30 * DAY);
  expect(late.continues).toBe(false);
  expect(late.isDone(file(12))).toBe(false);
  await late.save(false, NOW + 30 * DAY);
  const next = await open(NOW + 31 * DAY);
  expect(next.continues).toBe(true);
  expect(next.isDone(file(12))).toBe(false);
});

test('what the clock said before it was set back does not last for ever', async () => {
  const state = await open(NOW + 5000 * DAY);
  state.history.moved(moved(12), NOW + 5000 * DAY);
  await state.save(false, NOW + 5000 * DAY);
  const next = await open();
  expect(next.continues).toBe(true);
  expect([...next.history][0].at).toBe(NOW);
  await next.save(false, NOW);
  expect((await open(NOW + 30 * DAY)).continues).toBe(false);
});

test('a run that goes on after the end of its cycle begins another', async () => {
  const state = await open();
  state.done(file(12));
  await state.save(true, NOW + DAY);
  state.done(file(13));
  await state.save(false, NOW + DAY);
  const next = await open(NOW + 30.5 * DAY);
  expect([file(12), file(13)].map((each) => next.isDone(each))).toEqual([false, true]);
});

test('what is saved is read', async () => {
  const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const inode = fc.integer({ min: 1, max: 2 ** 32 - 1 });
  const moves = fc.array(
    fc.record({ inode, generation: word, fragmentsBefore: word, fragmentsAfter: word, ago: fc.nat() }),
  );
  const done = fc.uniqueArray(fc.record({ inode, generation: word }), { selector: (each) => each.inode });
  await fc.assert(
    fc.asyncProperty(moves, done, fc.boolean(), async (outcomes, files, finished) => {
      rmSync(path, { force: true });
      const state = await open();
      for (const outcome of outcomes) state.history.moved(outcome, NOW - outcome.ago);
      for (const each of files) state.done(each);
      await state.save(finished, NOW);
      const next = await open();
      expect(next.ignored).toBeUndefined();
      expect([...next.history]).toEqual([...state.history]);
      expect(next.continues).toBe(!finished);
      expect(files.every((each) => next.isDone(each) === !finished)).toBe(true);
    }),
  );
});

test('as much as is ever kept is read', { timeout: 60_000 }, async () => {
  const state = await open();
  const most = 2 ** 32 - 1;
  for (let i = 0; i < MOST_RECORDS; i++) state.history.moved(moved(most - i), NOW);
  for (let i = 0; i < 500_001; i++) state.done(file(most - i, most));
  await state.save(false, NOW);
  const next = await open();
  expect(next.ignored).toBeUndefined();
  expect((await stat(path)).size).toBeLessThan(32 * 1024 * 1024);
  expect(next.history.size).toBe(MOST_RECORDS);
  expect(next.isDone(file(most - 499_999, most))).toBe(true);
  expect(next.isDone(file(most - 500_000, most))).toBe(false);
});

test('any bytes give a state that can be used', async () => {
  const bytes = fc.uint8Array().map((each) => Buffer.from(each));
  const json = fc.json().map((each) => Buffer.from(each));
  await fc.assert(
    fc.asyncProperty(fc.oneof(bytes, json), async (rest) => {
      await writeFile(path, Buffer.concat([Buffer.from('{"format":'), rest]));
      const state = await open();
      expect(state.ignored).toMatch(
        /^what earlier runs left in .* is not of a form that this version knows$/,
      );
      expect(state.continues).toBe(false);
      expect(state.isDone(file(12))).toBe(false);
      await state.save(false, NOW);
      expect((await open()).ignored).toBeUndefined();
    }),
  );
});

test('a file that was cut short is not used', async () => {
  const state = await open();
  state.history.moved(moved(12), NOW);
  state.done(file(13));
  await state.save(false, NOW);
  const whole = (await readFile(path)).toString().trimEnd();
  for (let length = 0; length < whole.length; length++) {
    await writeFile(path, whole.slice(0, length));
    const cut = await open();
    expect(cut.ignored).toBeDefined();
    expect(cut.history.size).toBe(0);
  }
});

test('anything odd in a file makes it useless', async () => {
  const record = [12, 7, NOW, 101, 1, 0];
  const cycle = { started: NOW, done: [13, 7] };
  const holding = (of: unknown, format: unknown = 1, uuid = UUID) => ({
    format,
    filesystems: { [uuid]: of },
  });
  const ignored = async (content: unknown) => {
    await writeFile(path, JSON.stringify(content));
    const { ignored, history, continues } = await open();
    if (ignored !== undefined) expect([history.size, continues]).toEqual([0, false]);
    return ignored !== undefined;
  };
  expect(await ignored(holding({ cycle, files: record }))).toBe(false);
  expect(await ignored(holding({ files: [] }))).toBe(false);

  const wrongCells = [
    ...[0, -1, 1.5, 2 ** 32, '12', null, [12]].map((cell) => record.with(0, cell as number)),
    ...[-1, 2 ** 32].map((cell) => record.with(1, cell)),
    ...[-1, 1e16].map((cell) => record.with(2, cell)),
    ...[-1, 2 ** 32].map((cell) => record.with(3, cell)),
    ...[-1, 2 ** 32].map((cell) => record.with(4, cell)),
    ...[-1, 256].map((cell) => record.with(5, cell)),
  ];
  const odd = [
    ...wrongCells.map((files) => holding({ files: [...record, ...files] })),
    holding({ files: record.slice(1) }),
    holding({ files: Array.from({ length: MOST_RECORDS + 1 }, () => record).flat() }),
    holding({ files: { length: 0 } }),
    holding({ cycle }),
    holding([]),
    holding(null),
    ...[[13], [0, 7], [13, -1], [13, '7'], null].map((done) =>
      holding({ cycle: { started: NOW, done }, files: record }),
    ),
    holding({ cycle: { started: NOW, done: Array<number>(1_000_002).fill(1) }, files: record }),
    ...[-1, 1e16, '1', null].map((started) => holding({ cycle: { started, done: [] }, files: record })),
    holding({ cycle: null, files: record }),
    holding({ files: record }, 2),
    holding({ files: record }, '1'),
    holding({ files: [1] }, 1, OTHER),
    { format: 1, filesystems: { [UUID]: { files: record }, [OTHER]: { files: [1] } } },
    holding({ files: record }, 1, '../state'),
    { format: 1, filesystems: [] },
    { format: 1 },
  ];
  for (const content of odd) {
    expect(await ignored(content), JSON.stringify(content).slice(0, 200)).toBe(true);
  }
  await writeFile(path, JSON.stringify(holding({ files: record })).replace('[12', '[1e999'));
  expect((await open()).ignored).toBeDefined();
});

test('a file that would take a minute or gigabytes to read is not read', async () => {
  await writeFile(
    path,
    Buffer.concat([Buffer.from('{"format":'), Buffer.alloc(64 * 1024 * 1024 - 10, '[],')]),
  );
  const started = performance.now();
  expect((await open()).ignored).toMatch(/is not of a form/);
  expect(performance.now() - started).toBeLessThan(5000);
  await truncate(path, 64 * 1024 * 1024 + 1);
  expect((await open()).ignored).toMatch(/is too large$/);
  await (await open()).save(true, NOW);
  expect((await open()).ignored).toBeUndefined();
});

test('what is no regular file is neither read nor replaced, and nobody waits for it', async () => {
  await mkdir(join(folder, 'directory'));
  await symlink('/dev/null', join(folder, 'link'));
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  for (const [name, code] of [
    ['directory', 'EINVAL'],
    ['link', 'ELOOP'],
    ['pipe', 'EINVAL'],
  ]) {
    const state = await RunState.open(join(folder, name), UUID, NOW);
    expect(state.ignored).toMatch(`cannot be read (${code})`);
    await expect(state.save(false, NOW)).rejects.toMatchObject({ code });
  }
  expect(readdirSync(folder)).toEqual(['directory', 'link', 'pipe']);
});

test('a message is one line, whatever the name', async () => {
  const state = await RunState.open(join(folder, 'a\nb\0c'), UUID, NOW);
  expect(state.ignored).toMatch(/^what earlier runs left in .*$/);
});

test('a new file takes the place of the old one, for its owner only, and leaves nothing beside it', async () => {
  path = join(folder, 'made', 'as needed', 'state.json');
  const state = await open();
  await state.save(false, NOW);
  const old = await stat(path);
  await state.save(false, NOW);
  const { ino, mode } = await stat(path);
  expect(mode & 0o777).toBe(0o600);
  expect(ino).not.toBe(old.ino);
  for (const made of ['made', 'made/as needed']) {
    expect((await stat(join(folder, made))).mode & 0o777).toBe(0o700);
  }
  expect(readdirSync(join(folder, 'made', 'as needed'))).toEqual(['state.json']);
});

test('where nothing can be written the system says why, and a later save works', async () => {
  await writeFile(join(folder, 'file'), '');
  const state = await RunState.open(join(folder, 'file', 'state.json'), UUID, NOW);
  expect(state.ignored).toMatch('ENOTDIR');
  await expect(state.save(false, NOW)).rejects.toMatchObject({ code: 'ENOTDIR' });
  rmSync(join(folder, 'file'));
  await state.save(false, NOW);
  expect(readdirSync(join(folder, 'file'))).toEqual(['state.json']);
});

test('a file is whole before it has its name; where it gets none, nothing is left of it', async () => {
  const state = await open();
  await state.save(false, NOW);
  const old = await readFile(path, 'utf8');
  const whole: string[] = [];
  renaming.before = async (from) => {
    whole.push(from, await readFile(from, 'utf8'));
    throw new SystemError(5, 'rename', from);
  };
  state.done(file(12));
  await expect(state.save(false, NOW)).rejects.toMatchObject({ code: 'EIO' });
  expect(dirname(whole[0])).toBe(folder);
  expect(JSON.parse(whole[1])).toMatchObject({ filesystems: { [UUID]: { cycle: { done: [12, 7] } } } });
  expect(readdirSync(folder)).toEqual(['state.json']);
  expect(await readFile(path, 'utf8')).toBe(old);
  renaming.before = undefined;
  await state.save(false, NOW);
  expect((await open()).isDone(file(12))).toBe(true);
});

test('what a file says of other filesystems when it is saved is kept', async () => {
  const [mine, others] = [await open(), await open(NOW, OTHER)];
  mine.history.moved(moved(12), NOW);
  others.history.moved(moved(13), NOW);
  others.done(file(14));
  await others.save(false, NOW);
  await mine.save(true, NOW);
  await mine.save(true, NOW);
  expect(Array.from((await open()).history, ({ inode }) => inode)).toEqual([12]);
  const kept = await open(NOW, OTHER);
  expect([...kept.history]).toEqual([...others.history]);
  expect([kept.continues, kept.isDone(file(14))]).toEqual([true, true]);
  expect((await open()).isDone(file(14))).toBe(false);
});

test('of too many filesystems those saved longest ago are left out', async () => {
  const uuid = (i: number) => `00000000-0000-0000-0000-${String(i).padStart(12, '0')}`;
  const save = async (i: number) => (await open(NOW, uuid(i))).save(false, NOW);
  const kept = async (i: number) => (await open(NOW, uuid(i))).continues;
  for (let i = 0; i < 64; i++) await save(i);
  await save(0);
  expect(await kept(1)).toBe(true);
  await save(64);
  expect([await kept(0), await kept(1), await kept(2), await kept(64)]).toEqual([true, false, true, true]);
});

test('saves come one after the other', async () => {
  const state = await open();
  let running = 0;
  renaming.before = async () => {
    expect(++running).toBe(1);
    await sleep(5);
    running--;
  };
  await Promise.all([false, false, true].map((finished) => state.save(finished, NOW)));
  expect((await open()).continues).toBe(false);
});

test('the state of a filesystem has its place', () => {
  const place = (env: NodeJS.ProcessEnv, uid: number) => defaultStatePath(UUID, env, uid);
  const home = { HOME: '/home/me' };
  expect(place({ ...home, XDG_STATE_HOME: '/state' }, 0)).toBe(`/var/lib/ext4-defrag/${UUID}.json`);
  expect(place({ ...home, XDG_STATE_HOME: '/state' }, 1000)).toBe(`/state/ext4-defrag/${UUID}.json`);
  const inHome = `/home/me/.local/state/ext4-defrag/${UUID}.json`;
  expect(place(home, 1000)).toBe(inHome);
  expect(place({ ...home, XDG_STATE_HOME: 'state' }, 1000)).toBe(inHome);
  expect(place({ ...home, XDG_STATE_HOME: '' }, 1000)).toBe(inHome);
  expect(place({}, 1000)).toBeUndefined();
  expect(place({ HOME: '' }, 1000)).toBeUndefined();
});

test('a file of another kind, named by mistake, stays as it is', async () => {
  await writeFile(path, 'root:x:0:0:');
  const state = await open();
  expect(state.ignored).toMatch(/is none$/);
  await expect(state.save(true, NOW)).rejects.toMatchObject({ code: 'EEXIST' });
  expect(await readFile(path, 'utf8')).toBe('root:x:0:0:');
});
