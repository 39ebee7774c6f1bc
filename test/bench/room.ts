// What can be made contiguous where free space lies in pieces.
import { execa } from 'execa';
import type { DefragSummary } from '../../lib/index.ts';
import { age } from '../support/age.ts';
import { Lab, MiB } from '../support/lab.ts';
import { changeOf, contentsOf, layoutOf, type Layout } from '../support/layout.ts';
import {
  atLeast,
  atMost,
  cool,
  e4defrag,
  events,
  inform,
  keepMaster,
  scaled,
  seconds,
  writtenFor,
  type Restore,
} from './bench.ts';

/** How full, in percent, and how much of the fragmented bytes must be cured. */
const FILLS = [
  { fill: 70, target: 95 },
  { fill: 85, target: 95 },
  { fill: 95, target: 80 },
] as const;

/** One that moves files, and what it says of that. */
type Mover = (mountPoint: string) => Promise<DefragSummary | undefined>;

const ours: Mover = async (mountPoint) =>
  (await events('defrag', '--no-state', mountPoint)).at(-1) as DefragSummary;

const theirs: Mover = async (mountPoint) => {
  // It fails when there is a file that it could not improve.
  await e4defrag(mountPoint).catch(() => undefined);
  return undefined;
};

/** An aged filesystem before anything is moved. */
interface Aged {
  readonly lab: Lab;
  readonly names: readonly string[];
  readonly contents: ReadonlyMap<string, string>;
  readonly layout: Layout;
  readonly restore: Restore;
}

/** Lets something move files on a copy of an aged filesystem, which must stay whole. */
async function moved({ lab, names, contents, layout, restore }: Aged, mover: Mover) {
  await restore();
  await cool(lab);
  let summary: DefragSummary | undefined;
  let time = 0;
  const written = await writtenFor(lab, async () => {
    time = await seconds(async () => {
      summary = await mover(lab.mountPoint);
    });
  });
  const after = await layoutOf(lab, names);
  await lab.unmount();
  await execa('e2fsck', ['-fn', lab.image]);
  await lab.mount();
  const now = contentsOf(lab, names);
  const changed = names.filter((name) => now.get(name) !== contents.get(name));
  if (changed.length > 0) throw new Error(`these files have changed: ${changed.join(' ')}`);
  return { summary, time, written, after, ...changeOf(layout, after, lab.blockSize) };
}

const rowOf = ({ time, written, after, cured, improved, worse }: Awaited<ReturnType<typeof moved>>) => ({
  'cured %': round(cured * 100),
  improved,
  worse: worse.length,
  seconds: round(time),
  'MiB written': round(written),
  'free runs': after.free.runs,
  'longest KiB': after.free.longest / 1024,
});

const round = (value: number) => Number(value.toFixed(1));

async function against(fill: number, target: number): Promise<void> {
  const size = scaled(1024, 256);
  console.log(`${size} MiB aged until ${fill} % are used and free space is in pieces, against e4defrag …`);
  // What is free is free for everybody: the reserve is the program's own.
  const lab = await Lab.create({ size: size * MiB, mkfs: ['-m', '0'] });
  try {
    const names = await age(lab, { fill: fill / 100 });
    const layout = await layoutOf(lab, names);
    const aged = { lab, names, layout, contents: contentsOf(lab, names), restore: await keepMaster(lab) };
    const [us, them] = [await moved(aged, ours), await moved(aged, theirs)];
    const [short, all] = [layout.fragmentedBytes / MiB, layout.bytes / MiB].map(round);
    console.log(`  ${names.length} files, ${short} of ${all} MiB in short fragments; free:`, layout.free);
    console.table({ us: rowOf(us), e4defrag: rowOf(them) });
    console.log('  we say:', us.summary);
    const what = `room, ${fill} % full`;
    atLeast(target, `${what}, fragmented bytes cured by us`, us.cured * 100, '%');
    inform(`${what}, fragmented bytes cured by e4defrag`, them.cured * 100, '%');
    atMost(0, `${what}, files in more fragments than before`, us.worse.length, '');
  } finally {
    await lab.close();
  }
}

export async function room(): Promise<void> {
  for (const { fill, target } of FILLS) await against(fill, target);
}
