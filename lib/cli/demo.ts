import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, ftruncateSync, fsyncSync, writeSync } from 'node:fs';
import { link, mkdir, mkdtemp, open, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { defragment } from '../index.ts';
import { fallocate } from '../kernel/allocate.ts';
import { fiemap } from '../kernel/fiemap.ts';
import { mergeExtents } from '../layout/extents.ts';
import { countFragments } from '../layout/fragments.ts';
import { blocks, bytes } from '../layout/units.ts';
import { fragmentFile } from '../move/fragment.ts';
import { drawMap, spanOf, type MappedFile, type MapStyle } from '../report/map.ts';
import { COLOURS } from '../report/style.ts';
import { textReporter } from '../report/text.ts';
import { Console } from './console.ts';
import { EXIT, type ExitCode } from './exitCode.ts';
import { Output } from './output.ts';
import { finish, report } from './run.ts';
import { StopSignals } from './signals.ts';
import { styleFor } from './terminal.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const BLOCK_SIZE = bytes(4 * KiB);

/** The kinds of files the demo makes: how each is filled, and in fragments of how many blocks it lies afterwards. */
const FILES: readonly {
  name: string;
  about: string;
  fragment: number;
  fill: (path: string) => Promise<void>;
}[] = [
  {
    name: 'video',
    about: '64 MiB in fragments of 16 KiB',
    fragment: 4,
    fill: (path) => writeFile(path, randomBytes(64 * MiB)),
  },
  {
    name: 'sparse',
    about: 'with holes',
    fragment: 8,
    fill: (path) =>
      withFile(path, (fd) => {
        for (let i = 0; i < 64; i++) writeSync(fd, randomBytes(128 * KiB), 0, 128 * KiB, i * 384 * KiB);
        ftruncateSync(fd, 64 * 384 * KiB);
      }),
  },
  {
    name: 'database',
    about: 'half of it allocated and not written yet',
    fragment: 8,
    fill: (path) =>
      withFile(path, async (fd) => {
        await fallocate(fd, 0, bytes(0), bytes(16 * MiB));
        writeSync(fd, randomBytes(8 * MiB));
      }),
  },
  {
    name: 'mail',
    about: 'small, its tail shorter than a block',
    fragment: 2,
    fill: (path) => writeFile(path, randomBytes(200 * KiB + 17)),
  },
  {
    name: 'linked',
    about: 'with a second name',
    fragment: 4,
    fill: async (path) => {
      await writeFile(path, randomBytes(4 * MiB));
      await link(path, `${path}-too`);
    },
  },
];

async function withFile(path: string, work: (fd: number) => Promise<void> | void): Promise<void> {
  const file = await open(path, 'w+');
  try {
    await work(file.fd);
  } finally {
    await file.close();
  }
}

/**
 * Shows the whole job on a loopback ext4 of its own, and proves what it shows.
 *
 * @returns 0 when every proof holds, 1 when one does not, 3 without root, 130 after a signal
 */
export async function demo(): Promise<ExitCode> {
  const console = new Console(new Output(process.stdout), new Output(process.stderr));
  if (process.getuid?.() !== 0) {
    await console.warn('demo: mounting needs root; "npm run demo" runs it in a VM instead');
    return finish(EXIT.UNSUPPORTED, console);
  }
  using stop = new StopSignals(() => void console.warn('stopping'));
  const stage = new Stage(console, stop.signal);
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-demo-'));
  const [image, mountPoint] = [join(folder, 'image'), join(folder, 'mnt')];
  let mounted = false;
  const unmount = async () => {
    if (mounted) await execa('umount', [mountPoint]);
    mounted = false;
  };
  try {
    await stage.say(`Making an ext4 of 512 MiB in ${image} and mounting it`);
    await writeFile(image, '');
    await truncate(image, 512 * MiB);
    await mkdir(mountPoint);
    await execa('mkfs.ext4', ['-q', '-F', '-b', String(BLOCK_SIZE), image]);
    await execa('mount', ['-t', 'ext4', '-o', 'loop', image, mountPoint]);
    mounted = true;
    const shown = await stage.play(mountPoint);
    await unmount();
    const proved = stage.stopped ? false : await stage.proveClean(image);
    return await finish(stage.stopped ? EXIT.INTERRUPTED : shown && proved ? EXIT.OK : EXIT.FAILED, console);
  } finally {
    await unmount();
    await rm(folder, { recursive: true, force: true });
  }
}

class Stage {
  readonly #console: Console;
  readonly #signal: AbortSignal;

  constructor(console: Console, signal: AbortSignal) {
    this.#console = console;
    this.#signal = signal;
  }

  get stopped(): boolean {
    return this.#signal.aborted;
  }

  say(text: string): Promise<void> {
    return this.#console.print([{ to: 'out', text }]);
  }

  /** Makes the files, shows them, defragments them, shows them again; answers whether the proofs hold. */
  async play(mountPoint: string): Promise<boolean> {
    const paths = FILES.map(({ name }) => join(mountPoint, name));
    await this.say('Making files, and fragmenting them by the kernel call that will defragment them:');
    for (const [i, { name, about, fill, fragment }] of FILES.entries()) {
      if (this.stopped) return false;
      await fill(paths[i]);
      await scatter(paths[i], mountPoint, fragment);
      await this.say(`  ${name.padEnd(10)} ${about}`);
    }
    const before = await Promise.all(paths.map(identify));
    await this.say('\nBefore, where each file lies on the part of the device that they cover:');
    await this.#show(await layouts(paths));
    await this.say('\nDefragmenting:');
    const style = styleFor(this.#console.out);
    const reporter = textReporter('defrag', {
      verbose: false,
      style,
      errorStyle: styleFor(this.#console.err),
    });
    const events = defragment([mountPoint], { signal: this.#signal });
    const code = await report(events, (event) => reporter.lines(event), this.#console);
    if (code !== EXIT.OK) return false;
    await this.say('\nAfter:');
    const after = await layouts(paths);
    await this.#show(after);
    await this.say('\nProofs:');
    return this.#proveFiles(paths, before, after);
  }

  async #proveFiles(paths: string[], before: string[], layout: readonly MappedFile[]): Promise<boolean> {
    const after = await Promise.all(paths.map(identify));
    const counts = layout.map(({ extents }) => countFragments(extents));
    const theirs = await Promise.all(paths.map(filefrag));
    const proofs = [
      await this.#prove(
        before.every((identity, i) => identity === after[i]),
        'content (SHA-256), size, mode and modification time of every file are unchanged',
      ),
      await this.#prove(
        counts.every((count) => count === 1),
        'every file is one fragment',
      ),
      await this.#prove(
        counts.every((count, i) => count === theirs[i]),
        'filefrag counts the same',
      ),
    ];
    return proofs.every(Boolean);
  }

  async proveClean(image: string): Promise<boolean> {
    const { exitCode } = await execa('e2fsck', ['-fn', image], { reject: false });
    return this.#prove(exitCode === 0, 'e2fsck -fn finds the unmounted filesystem clean');
  }

  async #prove(holds: boolean, claim: string): Promise<boolean> {
    await this.say(`  ${holds ? 'yes' : 'NO '}  ${claim}`);
    return holds;
  }

  async #show(files: readonly MappedFile[]): Promise<void> {
    const rows = files.map(({ name, extents }) => {
      const count = countFragments(extents);
      return {
        name: `  ${name.padEnd(9)} ${String(count).padStart(5)} fragment${count === 1 ? ' ' : 's'}`,
        extents,
      };
    });
    const span = spanOf(files.map(({ extents }) => extents));
    for (const line of drawMap(rows, span, mapStyle(this.#console.out))) await this.say(line);
  }
}

async function scatter(path: string, directory: string, fragment: number): Promise<void> {
  const [file, dir] = [await open(path, 'r+'), await open(directory, 'r')];
  try {
    await fragmentFile(file.fd, dir.fd, BLOCK_SIZE, () => blocks(fragment));
    fsyncSync(file.fd);
  } finally {
    await Promise.all([file.close(), dir.close()]);
  }
}

async function layouts(paths: readonly string[]): Promise<MappedFile[]> {
  return Promise.all(
    paths.map(async (path, i) => {
      const file = await open(path, 'r');
      try {
        return { name: FILES[i].name, extents: mergeExtents(await fiemap(file.fd, BLOCK_SIZE)) };
      } finally {
        await file.close();
      }
    }),
  );
}

function mapStyle(output: Output): MapStyle {
  const locale = process.env.LC_ALL || process.env.LC_CTYPE || process.env.LANG || '';
  return {
    width: Math.min(output.stream.columns ?? 80, 120),
    unicode: /utf-?8/i.test(locale),
    colour: styleFor(output) === COLOURS,
  };
}

async function identify(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  const { size, mode, mtimeNs } = await stat(path, { bigint: true });
  return [hash.digest('hex'), size, mode, mtimeNs].join();
}

async function filefrag(path: string): Promise<number> {
  const { stdout } = await execa('filefrag', [path]);
  return Number(/(\d+) extents? found$/.exec(stdout)?.[1]);
}
