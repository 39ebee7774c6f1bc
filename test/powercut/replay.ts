// What a disk holds when the power goes, and whether that is enough.
import { closeSync, copyFileSync, openSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:fs';
import { mkdir, rm, rmdir, writeFile } from 'node:fs/promises';
import { execa } from 'execa';
import { FILES, FILESYSTEM, RECORDS } from './image.ts';
import type { LogEntry } from './writeLog.ts';

/** As in test/support/records.c. */
const SLOTS = 65_536;
const MARK = 0x4b43_4140;

/** A power cut. */
export interface Cut {
  /** How many entries of the log were asked for before. */
  readonly at: number;
  /**
   * Which of the writes since the last flush are on the disk all the same; undefined for a cut right after a flush,
   * where everything before it is.
   */
  readonly keeps: (() => boolean) | undefined;
}

export interface CutResult {
  /** Records that had been acknowledged. */
  readonly acknowledged: number;
  /** What is wrong; empty when nothing is. */
  readonly losses: readonly string[];
}

/** A disk that is written as its log says, and cut off from power in between. */
export class Replay {
  readonly #log: readonly LogEntry[];
  readonly #logFd: number;
  readonly #disk: number;
  readonly #path: string;
  readonly #blockSize: number;
  /** By file and slot: the age of the youngest acknowledged record. */
  readonly #table = new Uint32Array(FILES.all * SLOTS);
  /** Entries that are on the disk, and of those that are looked at for marks. */
  #written = 0;
  #marked = 0;
  #acknowledged = 0;

  /** @param image the disk before the first entry; a copy is made beside it */
  constructor(image: string, logPath: string, log: readonly LogEntry[], blockSize: number) {
    this.#log = log;
    this.#path = `${image}.replay`;
    copyFileSync(image, this.#path);
    this.#disk = openSync(this.#path, 'r+');
    this.#logFd = openSync(logPath, 'r');
    this.#blockSize = blockSize;
  }

  async close(): Promise<void> {
    closeSync(this.#disk);
    closeSync(this.#logFd);
    await rm(this.#path, { force: true });
  }

  /** Cuts come in the order of the log. */
  async cut({ at, keeps }: Cut): Promise<CutResult> {
    const flushed = keeps === undefined ? at : this.#log.slice(0, at).findLastIndex(({ flush }) => flush) + 1;
    for (; this.#written < flushed; this.#written++) this.#write(this.#disk, this.#log[this.#written]);
    for (; this.#marked < at; this.#marked++) this.#mark(this.#log[this.#marked]);
    const image = `${this.#path}.cut`;
    copyFileSync(this.#path, image, constants.COPYFILE_FICLONE);
    const fd = openSync(image, 'r+');
    for (const entry of this.#log.slice(flushed, at)) if (keeps?.()) this.#write(fd, entry);
    closeSync(fd);
    try {
      return { acknowledged: this.#acknowledged, losses: await this.#check(image) };
    } finally {
      await rm(image, { force: true });
    }
  }

  #write(fd: number, { discard, position, length, dataAt }: LogEntry): void {
    if (length === 0) return;
    const data = Buffer.alloc(length);
    // What is discarded may read as anything.
    if (!discard) readSync(this.#logFd, data, 0, length, dataAt);
    writeSync(fd, data, 0, length, position);
  }

  #mark({ discard, position, length, dataAt }: LogEntry): void {
    if (discard || position < FILESYSTEM) return;
    const data = Buffer.alloc(length);
    readSync(this.#logFd, data, 0, length, dataAt);
    for (let at = 0; at < length; at += 512) {
      if (data.readUInt32LE(at) !== MARK) continue;
      const [file, slot, age] = [4, 8, 12].map((offset) => data.readUInt32LE(at + offset));
      const row = file * SLOTS + slot;
      this.#table[row] = Math.max(this.#table[row], age);
      this.#acknowledged++;
    }
  }

  async #check(image: string): Promise<string[]> {
    const [table, mountPoint] = [`${image}.table`, `${image}.mnt`];
    await writeFile(table, Buffer.from(this.#table.buffer));
    await mkdir(mountPoint);
    try {
      await execa('mount', ['-o', 'loop', image, mountPoint]);
      const losses: string[] = [];
      try {
        const verify = await execa(RECORDS, ['verify', mountPoint, String(this.#blockSize), table], {
          reject: false,
        });
        if (verify.exitCode !== 0) losses.push(...`${verify.stdout}${verify.stderr}`.split('\n').slice(0, 3));
      } finally {
        await execa('umount', [mountPoint]);
      }
      const check = await execa('e2fsck', ['-fn', image], { reject: false, all: true });
      if (check.exitCode !== 0) losses.push(`e2fsck: ${check.all.split('\n').slice(0, 3).join(' / ')}`);
      return losses;
    } finally {
      await rmdir(mountPoint);
      await rm(table, { force: true });
    }
  }
}
