// What can be made contiguous where free space lies in pieces.
import { execa } from 'execa';
import type { DefragEvent, DefragSummary } from '../../lib/index.ts';
import { age } from '../support/age.ts';
import { Lab, MiB } from '../support/lab.ts';
import { changeOf, contentsOf, layoutOf, shortFiles, type Layout } from '../support/layout.ts';
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
type Mover = (mountPoint: string) => Promise<readonly DefragEvent[] | undefined>;

const ours: Mover = async (mountPoint) => (await events('defrag', '--no-state', mountPoint)) as DefragEvent[];

const theirs: Mover = async (mountPoint) => {
  // It fails when there is a file that it could not improve.
  await e4defrag(mountPoint).catch(() => undefined);
  return undefined;
};

/** Files that were left in short fragments, and that nothing was said of. */
function unexplained(told: readonly DefragEvent[], lab: Lab, after: Layout): string[] {
  const explained = new Set(
    told.flatMap((event) =>
      event.type === 'skip' || (event.type === 'defragmented' && event.incomplete !== undefined)
        ? [event.path]
        : [],
    ),
  );
  return [...shortFiles(after, lab.blockSize)].filter((name) => !explained.has(lab.path(name)));
}

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
  let told: readonly DefragEvent[] | undefined;
  let time = 0;
  const written = await writtenFor(lab, async () => {
    time = await seconds(async () => {
      told = await mover(lab.mountPoint);
    });
  });
  const after = await layoutOf(lab, names);
  await lab.unmount();
  await execa('e2fsck', ['-fn', lab.image]);
  await lab.mount();
  const now = contentsOf(lab, names);
  const changed = names.filter((name) => now.get(name) !== contents.get(name));
  if (changed.length > 0) throw new Error(`these files have changed: ${changed.join(' ')}`);
  return { told, time, written, after, ...changeOf(layout, after, lab.blockSize) };
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
    const summary = us.told!.at(-1) as DefragSummary;
    console.log('  we say:', summary);
    const what = `room, ${fill} % full`;
    const silent = unexplained(us.told!, lab, us.after);
    // What the reserve does not allow is not cured, and each file is told why.
    if (us.cured * 100 < target && fill >= 95) {
      inform(`${what}, fragmented bytes cured by us`, us.cured * 100, '%');
      atMost(0, `${what}, files left fragmented without a reason`, silent.length, '');
    } else {
      atLeast(target, `${what}, fragmented bytes cured by us`, us.cured * 100, '%');
      atMost(
        2,
        `${what}, bytes moved out of the way, of bytes defragmented`,
        summary.bytesEvacuated / summary.bytesMoved,
      );
    }
    inform(`${what}, fragmented bytes cured by e4defrag`, them.cured * 100, '%');
    atMost(0, `${what}, files in more fragments than before`, us.worse.length, '');
  } finally {
    await lab.close();
  }
}

export async function room(): Promise<void> {
  for (const { fill, target } of FILLS) await against(fill, target);
}
