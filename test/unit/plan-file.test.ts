import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { mkdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ExtentTable, mergeExtents } from '../../lib/layout/extents.ts';
import { FINGERPRINT_DIGITS, fingerprint } from '../../lib/layout/fingerprint.ts';
import { countFragments } from '../../lib/layout/fragments.ts';
import { blocks, bytes } from '../../lib/layout/units.ts';
import { spotsIn } from '../../lib/move/exactPlaces.ts';
import { FreeMap, usualGeometry } from '../../lib/place/freeMap.ts';
import { Destinations } from '../../lib/plan/destinations.ts';
import { followStep, undoRanges } from '../../lib/plan/follow.ts';
import { planFile, relocate } from '../../lib/plan/plan.ts';
import {
  decodePlan,
  encodePlan,
  encodeStep,
  MOST_PLAN_BYTES,
  planFoundation,
  readPlanFile,
  totalsOf,
  type FilesystemPlan,
  type Plan,
  type PlanKind,
  type PlanStep,
} from '../../lib/plan/planFile.ts';
import { PlanFileError } from '../../lib/plan/planFileError.ts';
import { PlanRecorder } from '../../lib/plan/planRecorder.ts';
import { pathInFilesystem, parseMounts } from '../../lib/scan/mounts.ts';
import { layouts } from '../support/arbitrary.ts';

const UUID = '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0';
const BLOCK = bytes(4096);

/** Any name but "." and ".." as bytes, most of them not UTF-8. */
const names = fc
  .uint8Array({ minLength: 1, maxLength: 12 })
  .map((name) => Buffer.from(name.map((byte) => (byte === 0 || byte === 0x2f ? 0x61 : byte))))
  .filter((name) => !['.', '..'].includes(name.toString('latin1')));

const paths = fc
  .array(fc.oneof(names, fc.string({ minLength: 1, unit: 'grapheme' }).map(cleaned)), {
    minLength: 1,
    maxLength: 3,
  })
  .map((parts) => Buffer.concat(parts.flatMap((part, i) => (i === 0 ? [part] : [Buffer.from('/'), part]))));

function cleaned(text: string): Buffer {
  const name = text.replaceAll('/', '_').replaceAll('\0', '_');
  return Buffer.from(name === '.' || name === '..' ? '_' : name);
}

const steps = (kind: PlanKind): fc.Arbitrary<PlanStep> => {
  const gapsAndLengths = fc.array(
    fc.tuple(
      fc.nat(1000),
      fc.integer({ min: 1, max: 5000 }),
      fc.integer({ min: 1, max: 99 }),
      fc.option(fc.maxSafeNat().map((start) => start % 2 ** 48)),
    ),
    { minLength: 1, maxLength: 6 },
  );
  const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  return fc
    .tuple(paths, gapsAndLengths, word, fc.double({ min: -1e9, max: 1e9, noNaN: true }))
    .map(([path, list, generation, savedSeconds]) => {
      let at = 0;
      const ranges = list.map(([gap, length, fragments, start]) => {
        const range = {
          offset: bytes((at + gap) * BLOCK),
          length: bytes(length * BLOCK),
          fragments,
          destination:
            start === null && kind === 'plan'
              ? undefined
              : { start: blocks(start ?? 7), length: blocks(length) },
        };
        at += gap + length;
        return range;
      });
      return {
        path,
        inode: generation === 0 ? 1 : generation,
        generation,
        size: bytes(at * BLOCK - 1),
        fingerprint: fingerprint(ExtentTable.from([{ logical: 0, physical: generation, length: 1 }])),
        bytesToMove: at * BLOCK,
        fragmentsBefore: 9,
        fragmentsAfter: 1,
        // JSON has no -0.
        savedSeconds: savedSeconds + 0,
        ranges,
      };
    });
};

const plans: fc.Arbitrary<Plan> = fc.constantFrom<PlanKind>('plan', 'undo').chain((kind) =>
  fc
    .tuple(fc.array(steps(kind), { maxLength: 4 }), fc.string(), fc.option(fc.nat()), fc.array(fc.string()))
    .map(([list, text, size, exclude]) => ({
      ...planFoundation(kind, {
        full: size === null,
        fragmentSize: size,
        exclude,
        minSize: null,
        maxSize: size,
      }),
      filesystems: [
        {
          uuid: UUID,
          device: text,
          mountPoint: text,
          blockSize: BLOCK,
          fragmentSize: size ?? Infinity,
          deviceProfile: { seek: 0.0127, bandwidth: 180 },
          steps: list,
        },
      ],
    })),
);

const encode = (plan: Plan): string =>
  encodePlan(
    plan,
    plan.filesystems.map((one) => ({
      ...one,
      totals: totalsOf(one.steps),
      steps: one.steps.map(encodeStep),
    })),
  );

const aStep: PlanStep = {
  path: Buffer.from('dir/file'),
  inode: 12,
  generation: 34,
  size: bytes(8000),
  fingerprint: 'a'.repeat(FINGERPRINT_DIGITS),
  bytesToMove: 8192,
  fragmentsBefore: 2,
  fragmentsAfter: 1,
  savedSeconds: 0.5,
  ranges: [
    {
      offset: bytes(0),
      length: bytes(8192),
      fragments: 2,
      destination: { start: blocks(77), length: blocks(2) },
    },
  ],
};

const aFilesystem: FilesystemPlan = {
  uuid: UUID,
  device: '/dev/sdb1',
  mountPoint: '/srv',
  blockSize: BLOCK,
  fragmentSize: 8 * 2 ** 20,
  deviceProfile: { seek: 0.0001, bandwidth: 500 },
  steps: [aStep],
};

const NO_OPTIONS = { full: false, fragmentSize: null, exclude: [], minSize: null, maxSize: null };
const aPlan = (kind: PlanKind = 'plan'): Plan => ({
  ...planFoundation(kind, NO_OPTIONS),
  filesystems: [aFilesystem],
});

type Json = { [key: string]: unknown };

/** The plan as an object that can be spoilt. */
const object = (): { filesystems: (Json & { steps: (Json & { ranges: Json[] })[] })[] } & Json =>
  JSON.parse(encode(aPlan())) as ReturnType<typeof object>;

/** What is wrong with it. */
function complaint(content: unknown): string {
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  try {
    decodePlan(Buffer.from(text));
  } catch (error) {
    if (error instanceof PlanFileError) return error.message;
    throw error;
  }
  return 'nothing';
}

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'ext4-defrag-plan-'))));
afterEach(() => rmSync(folder, { recursive: true }));

describe('the text', () => {
  test('says again what was written, whatever the names', () => {
    fc.assert(
      fc.property(plans, (plan) => {
        const text = encode(plan);
        // Nothing in it moves a terminal's cursor or turns its text around.
        expect(text).not.toMatch(/[^\P{Cc}\n]|[\p{Cf}\p{Zl}\p{Zp}]/u);
        expect(decodePlan(Buffer.from(text))).toEqual(plan);
      }),
    );
  });

  test('has what is done with a file on lines of its own, for eyes and for diff', () => {
    const lines = encode(aPlan()).split('\n');
    expect(lines).toContain('          "path": "dir/file",');
    expect(lines).toContain(
      '            {"offset": 0, "length": 8192, "fragments": 2, "destination": {"start": 77, "length": 2}}',
    );
    const other = { ...aStep, ranges: [{ ...aStep.ranges[0], destination: undefined }] };
    const changed = encode({ ...aPlan(), filesystems: [{ ...aFilesystem, steps: [other] }] }).split('\n');
    const differing = lines.filter((line, i) => line !== changed[i] && !line.includes('"created"'));
    expect(differing).toHaveLength(1);
  });

  test('steps that a reader took out are no loss', () => {
    const plan = object();
    plan.filesystems[0].steps.pop();
    expect(decodePlan(Buffer.from(JSON.stringify(plan))).filesystems[0].steps).toEqual([]);
  });
});

describe('a hostile or damaged file', () => {
  test('is read or refused in one line, never anything else', () => {
    const text = encode({ ...aPlan(), filesystems: [{ ...aFilesystem, steps: [aStep, aStep] }] });
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 2 }).map((json) => JSON.stringify(json)),
      fc.constantFrom(
        '-1',
        '1e400',
        '-0',
        '1.5',
        '9007199254740993',
        '"__proto__"',
        '{"__proto__": 1}',
        ',',
        '}',
      ),
    );
    fc.assert(
      fc.property(fc.nat(text.length), fc.nat(40), value, (at, length, instead) => {
        expect(complaint(text.slice(0, at) + instead + text.slice(at + length))).toMatch(/^[^\n]*$/);
      }),
      { numRuns: 2000 },
    );
  });

  test('any field may hold anything', () => {
    const places: [object: Json, key: string, plan: Json][] = [];
    const visit = (value: unknown, plan: Json) => {
      if (typeof value !== 'object' || value === null) return;
      for (const [key, inner] of Object.entries(value)) {
        places.push([value as Json, key, plan]);
        visit(inner, plan);
      }
    };
    const plan = object();
    visit(plan, plan);
    expect(places.length).toBeGreaterThan(40);
    for (const [at, key, whole] of places) {
      const kept = at[key];
      for (const bad of [undefined, 'x'.repeat(200), -1, 0.5, 2 ** 60, {}, [[]], { toString: 1 }]) {
        at[key] = bad;
        expect(complaint(whole), `${key}: ${JSON.stringify(bad)}`).toMatch(/^[^\n]{0,300}$/);
      }
      at[key] = kept;
      // A name that is not known is no typing mistake that goes unnoticed.
      if (typeof kept === 'object' && kept !== null && !Array.isArray(kept)) {
        (kept as Json).more = 1;
        expect(complaint(whole)).toContain('more is no field of a plan file');
        delete (kept as Json).more;
      }
    }
    expect(complaint(plan)).toBe('nothing');
  });

  test.each<[string, (plan: ReturnType<typeof object>) => void, RegExp]>([
    [
      'a number',
      (p) => (p.filesystems[0].steps[0].inode = -1),
      /^filesystems\[0\]\.steps\[0\]\.inode must be a whole/,
    ],
    [
      'text',
      (p) => (p.filesystems[0].steps[0].size = '1'),
      /^filesystems\[0\]\.steps\[0\]\.size must be .* not "1"/,
    ],
    [
      'a range',
      (p) => (p.filesystems[0].steps[0].ranges[0].offset = 1),
      /ranges\[0\]\.offset is not a multiple .* 4096/,
    ],
    ['no range', (p) => (p.filesystems[0].steps[0].ranges = []), /ranges is empty/],
    [
      'a range twice',
      (p) => p.filesystems[0].steps[0].ranges.push(p.filesystems[0].steps[0].ranges[0]),
      /ranges\[1\]\.offset must be/,
    ],
    ['a path upwards', (p) => (p.filesystems[0].steps[0].path = '../etc/shadow'), /path is not a path below/],
    ['an absolute path', (p) => (p.filesystems[0].steps[0].path = '/etc/shadow'), /path is not a path below/],
    ['a path with NUL', (p) => (p.filesystems[0].steps[0].path = 'a\0b'), /path is not a path below/],
    [
      'half a character',
      (p) => (p.filesystems[0].steps[0].path = 'a\ud800'),
      /path is not the bytes of the path/,
    ],
    [
      'other bytes',
      (p) => (p.filesystems[0].steps[0].pathBase64 = 'Yg=='),
      /pathBase64 is not the bytes of the path/,
    ],
    ['a filesystem twice', (p) => p.filesystems.push(p.filesystems[0]), /filesystems\[1\]\.uuid is the same/],
    ['a block size', (p) => (p.filesystems[0].blockSize = 4095), /blockSize must be 1024 or /],
    [
      'a missing field',
      (p) => delete p.filesystems[0].steps[0].generation,
      /steps\[0\]\.generation is missing/,
    ],
    [
      'an undo without places',
      (p) => {
        p.kind = 'undo';
        p.filesystems[0].steps[0].ranges[0].destination = null;
      },
      /destination is not as long/,
    ],
    ['a newer schema', (p) => (p.schema = 2), /it has schema 2 \(ext4-defrag .*make the plan anew$/],
    ['another format', (p) => (p.format = 'something'), /it is not a plan file/],
  ])('%s: what, where, and what to do', (_, spoil, message) => {
    const plan = object();
    spoil(plan);
    expect(complaint(plan)).toMatch(message);
  });

  test('what is no JSON, or no object, or made of brackets', () => {
    expect(complaint('')).toMatch(/it is not JSON/);
    expect(complaint(`${encode(aPlan()).slice(0, 400)}!`)).toMatch(/it is not JSON \(line \d+\)/);
    for (const text of ['[]', 'null', '1', '"x"']) expect(complaint(text)).toMatch(/it is not an object/);
    const started = performance.now();
    expect(complaint('['.repeat(2 ** 24))).toMatch(/more brackets/);
    expect(complaint('[],'.repeat(2 ** 22))).toMatch(/more brackets/);
    expect(performance.now() - started).toBeLessThan(2000);
  });

  test('what is nested deeply is described, not shown', () => {
    const deep = '['.repeat(50_000) + ']'.repeat(50_000);
    const filling = JSON.stringify('x'.repeat(3_000_000));
    const text = encode(aPlan()).replace('"device": "/dev/sdb1"', `"device": ${deep}`);
    expect(complaint(text.replace('"/srv"', filling))).toMatch(/device must be a string, not a list/);
  });

  test('a large, a special, and a missing file', async () => {
    const path = join(folder, 'plan.json');
    await writeFile(path, '');
    await truncate(path, MOST_PLAN_BYTES + 1);
    await expect(readPlanFile(path)).rejects.toThrow(PlanFileError);
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    await expect(readPlanFile(join(folder, 'pipe'))).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(readPlanFile(folder)).rejects.toMatchObject({ errno: expect.any(Number) as number });
    await expect(readPlanFile(join(folder, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('writing', () => {
  test('replaces a regular file, for its owner only, and nothing else', async () => {
    const path = join(folder, 'plan.json');
    await writeFile(path, 'old', { mode: 0o644 });
    const recorder = await PlanRecorder.open(path, 'plan', {});
    expect(readFileSync(path, 'utf8')).toBe('old');
    await recorder.save();
    expect((await readPlanFile(path)).filesystems).toEqual([]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['plan.json']);
    await mkdir(join(folder, 'directory'));
    await symlink(path, join(folder, 'link'));
    for (const name of [join(folder, 'directory'), join(folder, 'link'), '/dev/null']) {
      await expect(PlanRecorder.open(name, 'plan', {})).rejects.toMatchObject({ code: 'EEXIST' });
    }
    await expect(PlanRecorder.open(join(folder, 'no', 'plan'), 'plan', {})).rejects.toMatchObject({
      code: 'ENOENT',
    });
  });

  test('an undo file is never replaced', async () => {
    const path = join(folder, 'undo.json');
    await PlanRecorder.open(path, 'undo', {});
    await writeFile(path, '');
    await expect(PlanRecorder.open(path, 'undo', {})).rejects.toMatchObject({
      code: 'EEXIST',
      message: expect.stringContaining('an undo file is not replaced') as string,
    });
  });
});

describe('destinations', () => {
  test('the shortest run that is long enough; each block once', () => {
    const runs = fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 40 })));
    fc.assert(
      fc.property(runs, fc.array(fc.integer({ min: 1, max: 50 })), (gaps, needs) => {
        let at = 0;
        const free = gaps.map(([gap, length]) => {
          const run = { start: blocks(at + gap), length: blocks(length) };
          at += gap + length;
          return run;
        });
        const destinations = new Destinations(free);
        const taken = new Set<number>();
        const isFree = (block: number) =>
          !taken.has(block) && free.some((run) => block >= run.start && block < run.start + run.length);
        for (const need of needs) {
          const found = destinations.take(blocks(need));
          const longest = longestRun(at, isFree);
          if (found === undefined) {
            expect(longest).toBeLessThan(need);
            continue;
          }
          expect(found.length).toBe(need);
          for (let block = found.start as number; block < found.start + need; block++) {
            expect(isFree(block)).toBe(true);
            taken.add(block);
          }
        }
      }),
    );
  });

  test('are found in the free runs where they lie, what is not free or wanted twice is taken', () => {
    const free = FreeMap.of(
      [
        { start: 10, length: 10 },
        { start: 30, length: 5 },
      ],
      usualGeometry(BLOCK),
    );
    const want = (start: number, length: number) => ({ start: blocks(start), length: blocks(length) });
    const [a, b, c, d, e] = [want(30, 5), want(10, 4), want(14, 6), want(18, 4), want(12, 1)];
    const { spots, taken } = spotsIn(free, [a, b, c, d, e]);
    expect(spots).toEqual([
      { run: want(10, 10), wants: [b, c] },
      { run: want(30, 5), wants: [a] },
    ]);
    expect(taken).toEqual(new Set([d, e]));
  });
});

function longestRun(end: number, isFree: (block: number) => boolean): number {
  let [longest, run] = [0, 0];
  for (let block = 0; block < end; block++) {
    run = isFree(block) ? run + 1 : 0;
    longest = Math.max(longest, run);
  }
  return longest;
}

describe('following a step', () => {
  const sizeOf = (extents: ExtentTable) => bytes(extents.end * BLOCK);
  const follow = (kind: PlanKind, step: PlanStep, extents: ExtentTable, changes: Partial<PlanStep> = {}) =>
    followStep(
      kind,
      { ...step, ...changes },
      { size: sizeOf(extents), generation: 34, extents },
      BLOCK,
      blocks(32768),
    );
  const stepFor = (extents: ExtentTable, ranges: PlanStep['ranges']): PlanStep => ({
    ...aStep,
    size: sizeOf(extents),
    fingerprint: fingerprint(extents),
    ranges,
  });

  test('moves what was planned, and nothing when the file is another', () => {
    fc.assert(
      fc.property(layouts().map(mergeExtents), (extents) => {
        const options = { fragmentBlocks: 8, longestRun: blocks(32768) };
        const plan = planFile(extents, extents.end, options);
        fc.pre(typeof plan === 'object');
        const ranges = plan.ranges.map(({ firstFragment, endFragment }) => {
          const first = plan.extents.logical[plan.starts[firstFragment]];
          const last = plan.starts[endFragment] - 1;
          const end = plan.extents.logical[last] + plan.extents.length[last];
          return {
            offset: bytes(first * BLOCK),
            length: bytes((end - first) * BLOCK),
            fragments: 2,
            destination: undefined,
          };
        });
        const step = stepFor(extents, ranges);
        expect(follow('plan', step, extents)).toEqual(plan);
        for (const changes of [
          { size: bytes(step.size + 1) },
          { generation: 35 },
          { fingerprint: 'b'.repeat(FINGERPRINT_DIGITS) },
          // Somebody has changed the ranges.
          { ranges: [{ ...ranges[0], length: bytes(ranges[0].length + BLOCK) }] },
          { ranges: [{ ...ranges[0], offset: bytes(ranges[0].offset + BLOCK) }] },
        ]) {
          expect(follow('plan', step, extents, changes)).toBe('changed-since-plan');
        }
      }),
    );
  });

  test('an undo step leads back to the layout before', () => {
    const moves = fc.array(fc.tuple(fc.nat(200), fc.integer({ min: 1, max: 80 })), { maxLength: 5 });
    fc.assert(
      fc.property(layouts().map(mergeExtents), moves, (before, list) => {
        let to = 10_000_000;
        const after = list.reduce((layout, [skip, length]) => {
          const relocations = [...mappedWithin(layout, skip, skip + length)].map((piece) => {
            to += piece.length + 5;
            return { ...piece, physical: blocks(to - piece.length - 5) };
          });
          return relocate(layout, relocations);
        }, before);
        const ranges = undoRanges(before, after);
        expect(fingerprint(relocate(after, ranges))).toBe(fingerprint(relocate(before, [])));
        fc.pre(ranges.length > 0);
        const step = stepFor(
          after,
          ranges.map(({ logical, physical, length }) => ({
            offset: bytes(logical * BLOCK),
            length: bytes(length * BLOCK),
            fragments: 1,
            destination: { start: physical, length },
          })),
        );
        const plan = follow('undo', step, after);
        if (typeof plan === 'string') throw new Error(plan);
        expect(plan.ranges.map((range) => range.blocks)).toEqual(ranges.map(({ length }) => length));
        expect(plan.fragmentsBefore).toBe(countFragments(after));
        expect(plan.fragmentsAfter).toBe(countFragments(before));
        // A piece that reaches over what is mapped was not recorded.
        const beyond = { ...step.ranges[0], offset: bytes(step.size), length: bytes(BLOCK) };
        const destination = { start: blocks(1), length: blocks(1) };
        const spoilt = { ranges: [...step.ranges, { ...beyond, destination }] };
        expect(follow('undo', step, after, spoilt)).toBe('changed-since-plan');
      }),
    );
  });

  test('whether blocks are written tells layouts apart; what the cache makes of the flags does not', () => {
    const table = (flags: number) => ExtentTable.from([{ logical: 0, physical: 9, length: 3, flags }]);
    expect(fingerprint(table(0x801))).toBe(fingerprint(table(0x800)));
    expect(fingerprint(table(0x800))).not.toBe(fingerprint(table(0)));
    expect(fingerprint(ExtentTable.from([]))).toHaveLength(FINGERPRINT_DIGITS);
  });
});

function* mappedWithin(extents: ExtentTable, from: number, to: number) {
  for (const { logical, length } of extents) {
    const [start, end] = [Math.max(logical, from), Math.min(logical + length, to)];
    if (start < end) yield { logical: blocks(start), length: blocks(end - start) };
  }
}

test('a path is the same wherever its filesystem is mounted', () => {
  const mounts = parseMounts(
    Buffer.from(
      [
        '1 0 8:1 / / rw - ext4 /dev/sda1 rw',
        '2 1 8:2 / /srv rw - ext4 /dev/sdb1 rw',
        '3 1 8:2 /sub/dir /bind rw - ext4 /dev/sdb1 rw',
      ].join('\n'),
    ),
  );
  const where = (device: string, path: string) =>
    pathInFilesystem(mounts, device, Buffer.from(path))?.toString();
  expect(where('8:2', '/srv')).toBe('');
  expect(where('8:2', '/srv/sub/dir/file')).toBe('sub/dir/file');
  expect(where('8:2', '/bind/file')).toBe('sub/dir/file');
  expect(where('8:2', '/bind')).toBe('sub/dir');
  expect(where('8:1', '/home/me')).toBe('home/me');
  expect(where('8:2', '/srvother')).toBeUndefined();
  expect(where('8:3', '/srv')).toBeUndefined();
});
