// What is written for the read time that is saved.
import { filefrag, Lab, MiB } from '../support/lab.ts';
import { atLeast, cool, defrag, e4defrag, random, rounds, scaled, writeFresh, writtenFor } from './bench.ts';

/** Seconds. The same for both, so it does not matter to the ratio. */
const SEEK = 0.0127;
const SHATTERED = 0.1;

/** Fragments of 4 to 64 KiB in the middle of each of so many equal parts of a file, and none elsewhere. */
async function shatter(lab: Lab, name: string, size: number, parts: number): Promise<void> {
  const below = random();
  const part = (size * MiB) / lab.blockSize / parts;
  const [from, to] = [((1 - SHATTERED) / 2) * part, ((1 + SHATTERED) / 2) * part];
  let at = 0;
  await lab.fragment(name, () => {
    const start = Math.floor(at / part) * part;
    let next = at + 1 + below(16);
    if (at < Math.floor(start + from)) next = Math.floor(start + from);
    else if (at >= Math.floor(start + to)) next = Math.floor(start + part + from);
    else next = Math.min(next, Math.floor(start + to));
    const run = next - at;
    at = next;
    return run;
  });
}

export async function waste(): Promise<void> {
  const size = scaled(1024, 512);
  console.log(`a ${size} MiB file of which a tenth is shattered, in one region and in many …`);
  // What lies between two regions is worth leaving on any device.
  const shapes = { 'one region': 1, 'many regions': size / 128 };
  const lab = await Lab.create({ size: 6 * size * MiB + 1024 * MiB });
  try {
    for (const [shape, parts] of Object.entries(shapes)) {
      for (const name of [`ours, ${shape}`, `theirs, ${shape}`]) {
        await writeFresh(lab, name, size);
        await shatter(lab, name, size, parts);
      }
    }
    for (const shape of Object.keys(shapes)) {
      const measured = await rounds(lab, async () => {
        const price = async (name: string, start: (path: string) => Promise<unknown>) => {
          const path = lab.path(name);
          await cool(lab);
          const before = await filefrag(path);
          const written = await writtenFor(lab, () => start(path));
          const left = await filefrag(path);
          return { before, left, written, price: written / ((before - left) * SEEK) };
        };
        const ours = await price(`ours, ${shape}`, defrag);
        const theirs = await price(`theirs, ${shape}`, e4defrag);
        return {
          before: ours.before,
          left: ours.left,
          written: ours.written,
          price: ours.price,
          theirsBefore: theirs.before,
          theirsLeft: theirs.left,
          theirsWritten: theirs.written,
          theirsPrice: theirs.price,
        };
      });
      console.log(`  ${shape}: fragments, MiB, and MiB a second saved:`, measured);
      const what = `waste, ${shape}, read time saved for a byte written, of e4defrag's`;
      atLeast(2, what, measured.theirsPrice / measured.price);
    }
  } finally {
    await lab.close();
  }
}
