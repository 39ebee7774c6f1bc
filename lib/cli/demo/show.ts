import { join } from 'node:path';
import type { ExtentTable } from '../../layout/extents.ts';
import { countFragments } from '../../layout/fragments.ts';
import { defragment } from '../../move/defragment.ts';
import { drawMap, spanOf } from '../../report/map.ts';
import { textReporter } from '../../report/text.ts';
import type { Console } from '../console.ts';
import { EXIT } from '../exitCode.ts';
import { report } from '../run.ts';
import { mapStyleFor, styleFor } from '../terminal.ts';
import { DEMO_FILES, identify, layoutOf, scatter } from './files.ts';
import type { LoopImage } from './image.ts';
import { tool, tryTool } from './tools.ts';

/** The demo itself, on a mounted image: each step says what it does, and answers whether it did. */
export class Show {
  readonly #console: Console;
  readonly #image: LoopImage;
  readonly #signal: AbortSignal;
  readonly #paths: readonly string[];

  constructor(console: Console, image: LoopImage, signal: AbortSignal) {
    this.#console = console;
    this.#image = image;
    this.#signal = signal;
    this.#paths = DEMO_FILES.map(({ name }) => join(image.mountPoint, name));
  }

  say(text: string): Promise<void> {
    return this.#console.print([{ to: 'out', text }]);
  }

  async play(): Promise<boolean> {
    if (!(await this.#makeFiles())) return false;
    const before = await Promise.all(this.#paths.map(identify));
    await this.say('\nBefore; each row is the part of the device where these files lie:');
    await this.#map(await this.#layouts());
    await this.say('\nDefragmenting:');
    if (!(await this.#defragment())) return false;
    await this.say('\nAfter:');
    const layouts = await this.#layouts();
    await this.#map(layouts);
    await this.say('\nProofs:');
    return this.#proveFiles(before, layouts);
  }

  /** For the image after it was unmounted. */
  async proveClean(): Promise<boolean> {
    const { exitCode } = await tryTool('e2fsck', ['-fn', this.#image.path]);
    return this.#prove(exitCode === 0, 'e2fsck -fn finds the unmounted filesystem clean');
  }

  async #makeFiles(): Promise<boolean> {
    await this.say('Making files, and fragmenting them by the same kernel call that defragments them:');
    for (const [i, { name, about, fill, fragmentBlocks }] of DEMO_FILES.entries()) {
      if (this.#signal.aborted) return false;
      await fill(this.#paths[i]);
      await scatter(this.#paths[i], this.#image.mountPoint, fragmentBlocks, this.#image.blockSize);
      await this.say(`  ${name.padEnd(10)} ${about}`);
    }
    return true;
  }

  async #defragment(): Promise<boolean> {
    const reporter = await textReporter('defrag', {
      verbose: false,
      style: styleFor(this.#console.out),
      errorStyle: styleFor(this.#console.err),
    });
    const events = defragment([this.#image.mountPoint], { signal: this.#signal });
    return (await report(events, (event) => reporter.lines(event), this.#console)) === EXIT.OK;
  }

  #layouts(): Promise<ExtentTable[]> {
    return Promise.all(this.#paths.map((path) => layoutOf(path, this.#image.blockSize)));
  }

  async #map(layouts: readonly ExtentTable[]): Promise<void> {
    const rows = layouts.map((extents, i) => {
      const count = countFragments(extents);
      const fragments = `${String(count).padStart(5)} ${count === 1 ? 'fragment' : 'fragments'}`;
      return { name: `  ${DEMO_FILES[i].name.padEnd(9)} ${fragments}`, extents };
    });
    for (const line of drawMap(rows, spanOf(layouts), mapStyleFor(this.#console.out))) await this.say(line);
  }

  async #proveFiles(before: readonly string[], layouts: readonly ExtentTable[]): Promise<boolean> {
    const after = await Promise.all(this.#paths.map(identify));
    const counts = layouts.map(countFragments);
    const theirs = await Promise.all(this.#paths.map(filefrag));
    const proofs: [holds: boolean, claim: string][] = [
      [
        before.every((identity, i) => identity === after[i]),
        'content (SHA-256), size, mode and modification time are unchanged',
      ],
      [counts.every((count) => count === 1), 'every file is one fragment'],
      [counts.every((count, i) => count === theirs[i]), 'filefrag counts the same'],
    ];
    for (const [holds, claim] of proofs) await this.#prove(holds, claim);
    return proofs.every(([holds]) => holds);
  }

  async #prove(holds: boolean, claim: string): Promise<boolean> {
    const { good, bad } = styleFor(this.#console.out);
    await this.say(`  ${holds ? good('yes') : bad('NO ')}  ${claim}`);
    return holds;
  }
}

async function filefrag(path: string): Promise<number> {
  return Number(/(\d+) extents? found$/.exec((await tool('filefrag', [path])).trim())?.[1]);
}
