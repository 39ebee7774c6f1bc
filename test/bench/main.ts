// `npm run bench`: what the project promises about speed, as ratios measured in one run on one machine. Root only.
// `npm run bench -- NAME …` runs some of them; with BENCH_SCALE=0.1 they are small, to try them out.
import { broken, printRows, SCALE } from './bench.ts';
import { reader, writer } from './giveWay.ts';
import { big, move, small, warm } from './move.ts';
import { room } from './room.ts';
import { extents, inodes, scan } from './scan.ts';
import { start } from './start.ts';
import { waste } from './waste.ts';

const BENCHES: Readonly<Record<string, () => Promise<void>>> = {
  start,
  move,
  big,
  small,
  warm,
  extents,
  scan,
  inodes,
  reader,
  writer,
  waste,
  room,
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0) {
  console.error(`no such bench: ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}`);
  process.exit(2);
}
if (SCALE < 1) console.log(`only ${SCALE} of the work: the ratios prove nothing`);
for (const [name, bench] of Object.entries(BENCHES)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  try {
    await bench();
  } catch (error) {
    broken(name, error);
  }
}
process.exitCode = printRows() ? 0 : 1;
