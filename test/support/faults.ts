import { randomBytes } from 'node:crypto';
import { copyFile, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa, type Options } from 'execa';
import { onTestFinished, type TestContext } from 'vitest';
import { identify, MiB, scaled, type Identity, type Lab } from './lab.ts';

// The command as it is installed: compiled, in a process of its own.
const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export interface CommandEvent {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** Starts the command, behind the words of another that runs it: a shell that sets a limit, say. */
export function start(args: readonly string[], behind: readonly string[] = []) {
  const [program, ...rest] = [...behind, process.execPath, CLI, ...args];
  // One that hangs in the kernel cannot be killed either; then the test says so.
  return execa(program, rest, { reject: false, stdin: 'ignore' });
}

/** Runs the command to its end, and answers what it printed. */
export async function runCommand(args: readonly string[], behind: readonly string[] = []) {
  const { exitCode, stdout, stderr } = await start(args, behind);
  return { exitCode, stderr, stdout };
}

/** Runs it with --json. */
export async function runJson(args: readonly string[], behind: readonly string[] = []) {
  const { exitCode, stdout, stderr } = await runCommand([...args, '--json'], behind);
  const events = stdout.split('\n').filter(Boolean).map(parse);
  return { exitCode, stderr, events, ...byType(events) };
}

const parse = (line: string) => JSON.parse(line) as CommandEvent;

/** Runs it with --json, and does something once the first blocks have been moved. */
export async function runUntilMoving(
  args: readonly string[],
  act: (child: ReturnType<typeof start>) => Promise<unknown>,
) {
  const child = start([...args, '--json']);
  const events: CommandEvent[] = [];
  let acted: Promise<unknown> | undefined;
  for await (const line of child) {
    events.push(parse(line));
    if (acted !== undefined || events.at(-1)?.type !== 'progress') continue;
    acted = act(child);
    // It is awaited later; until then it is nobody's mistake.
    acted.catch(() => undefined);
  }
  await acted;
  const { exitCode, stderr } = await child;
  return { exitCode, stderr, events, acted: acted !== undefined, ...byType(events) };
}

/** What became of which file, by its name without folders. */
function byType(events: readonly CommandEvent[]) {
  const of = (type: string) => events.filter((event) => event.type === type);
  return {
    failed: new Map(of('failed').map((event) => [basename(event.path as string), event.code])),
    skipped: new Map(of('skip').map((event) => [basename(event.path as string), event.reason])),
    defragmented: new Set(of('defragmented').map((event) => basename(event.path as string))),
    summary: events.at(-1) ?? { type: 'none' },
  };
}

/** Bytes that a file has unless something else is asked for. */
export const FILE_SIZE = scaled(2 * MiB);

/** Files in fragments, named a, b, c and so on, and what must not change of them. */
export async function fragmentedFiles(
  l: Lab,
  count: number,
  size = FILE_SIZE,
  run = 4,
): Promise<Map<string, Identity>> {
  const names = Array.from({ length: count }, (_, i) => String.fromCharCode(97 + i));
  for (const name of names) {
    await writeFile(l.path(name), randomBytes(size));
    await l.fragment(name, run);
  }
  const identities = new Map<string, Identity>();
  for (const name of names) identities.set(name, await identify(l.path(name)));
  return identities;
}

/** The names of files that are not what they were. */
export async function changed(l: Lab, before: ReadonlyMap<string, Identity>): Promise<string[]> {
  const names: string[] = [];
  for (const [name, identity] of before) {
    const now = await identify(l.path(name));
    if (JSON.stringify(now, asText) !== JSON.stringify(identity, asText)) names.push(name);
  }
  return names;
}

const asText = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);

/** Nobody else is there to make the device's file. */
const dmsetup = (args: readonly string[], options: Options = {}) =>
  execa('dmsetup', args, { ...options, env: { DM_DISABLE_UDEV: '1' } });

/** A stretch of the device, in 512-byte sectors. */
export interface Sectors {
  readonly start: number;
  readonly length: number;
}

/** A block device, of which stretches can be made not to take what is written. To be made before the lab on it. */
export interface FaultyDevice {
  /** For {@link LabOptions.through}. */
  readonly attach: (image: string) => Promise<string>;
  /** These stretches, in order and unused so far, take nothing from now on. */
  readonly fail: (stretches: readonly Sectors[]) => Promise<void>;
  readonly heal: () => Promise<void>;
}

/**
 * Where there is no device mapper: the image lies on a tmpfs that is full, with holes in it. Reading them answers zeros,
 * and writing to them fails.
 */
export class FullMemory implements FaultyDevice {
  #folder = '';
  #loop = '';
  #image = '';

  static use(): FullMemory {
    const device = new FullMemory();
    onTestFinished(() => device.#remove());
    return device;
  }

  readonly attach = async (image: string): Promise<string> => {
    if (this.#loop === '') {
      const { size } = await stat(image);
      this.#folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-memory-'));
      await execa('mount', ['-t', 'tmpfs', '-o', `size=${size + MiB}`, 'none', this.#folder]);
      this.#image = join(this.#folder, 'image');
      await copyFile(image, this.#image);
      await rm(image);
      // Who checks the image finds it.
      await symlink(this.#image, image);
      this.#loop = (await execa('losetup', ['-f', '--show', this.#image])).stdout.trim();
    }
    return this.#loop;
  };

  fail = async (stretches: readonly Sectors[]): Promise<void> => {
    await execa('fallocate', ['-l', String((await stat(this.#image)).size), this.#image]);
    for (const { start, length } of stretches) {
      await execa('fallocate', ['-p', '-o', String(start * 512), '-l', String(length * 512), this.#image]);
    }
    await execa('sh', ['-c', 'cat /dev/zero > "$0" 2>/dev/null || true', join(this.#folder, 'filler')]);
  };

  heal = (): Promise<void> => rm(join(this.#folder, 'filler'));

  async #remove(): Promise<void> {
    if (this.#loop !== '') await execa('losetup', ['-d', this.#loop], { reject: false });
    if (this.#folder === '') return;
    await execa('umount', [this.#folder], { reject: false });
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/**
 * A loop device with a device mapper's device on it, of which stretches, or all writes, can be made to fail. To be made
 * before the lab that is mounted through it.
 */
export class MappedDevice implements FaultyDevice {
  readonly #name = `ext4-defrag-${randomBytes(4).toString('hex')}`;
  #loop = '';
  #sectors = 0;

  /** Skips the test where the kernel has no device mapper. */
  static async use({ skip }: TestContext): Promise<MappedDevice> {
    const { failed } = await execa('dmsetup', ['targets'], { reject: false });
    await execa('modprobe', ['-a', 'dm_mod', 'dm_flakey'], { reject: false });
    const { stdout, exitCode } = await execa('dmsetup', ['targets'], { reject: false });
    skip(
      failed && exitCode !== 0,
      'this kernel has no device mapper, or there is no dmsetup; the VM has both',
    );
    skip(!/^flakey/m.test(stdout), 'this kernel has no dm-flakey; the VM has it');
    const device = new MappedDevice();
    onTestFinished(() => device.#remove());
    return device;
  }

  /** For {@link LabOptions.through}. */
  readonly attach = async (image: string): Promise<string> => {
    if (this.#loop === '') {
      this.#loop = (await execa('losetup', ['-f', '--show', image])).stdout.trim();
      this.#sectors = Number((await execa('blockdev', ['--getsz', this.#loop])).stdout);
      await dmsetup(['create', this.#name, '--table', this.#linear(0, this.#sectors)]);
    }
    return `/dev/mapper/${this.#name}`;
  };

  #linear = (start: number, length: number): string => `${start} ${length} linear ${this.#loop} ${start}`;

  /** Makes reads and writes of these stretches fail, which are in order. */
  async fail(stretches: readonly Sectors[]): Promise<void> {
    const table: string[] = [];
    let at = 0;
    for (const { start, length } of [...stretches, { start: this.#sectors, length: 0 }]) {
      if (start > at) table.push(this.#linear(at, start - at));
      if (length > 0) table.push(`${start} ${length} error`);
      at = start + length;
    }
    await this.#load(table.join('\n'));
  }

  /** Makes every write fail, and no read. */
  failWrites = (): Promise<void> =>
    this.#load(`0 ${this.#sectors} flakey ${this.#loop} 0 0 600 1 error_writes`);

  /** Makes everything fail, as if the device had been taken out. */
  failAll = (): Promise<void> => this.#load(`0 ${this.#sectors} error`);

  heal = (): Promise<void> => this.#load(this.#linear(0, this.#sectors));

  async #load(table: string): Promise<void> {
    // Without writing anything back before: the fault comes unannounced.
    await dmsetup(['suspend', '--noflush', '--nolockfs', this.#name]);
    await dmsetup(['load', this.#name], { input: table });
    await dmsetup(['resume', this.#name]);
  }

  async #remove(): Promise<void> {
    if (this.#loop === '') return;
    await dmsetup(['remove', '--retry', this.#name], { reject: false });
    await execa('losetup', ['-d', this.#loop], { reject: false });
  }
}
