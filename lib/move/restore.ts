import { FALLOC, fallocate } from '../kernel/allocate.ts';
import { closeFd } from '../kernel/handle.ts';
import type { ExtentTable } from '../layout/extents.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { blocks, bytes, toBlocks, toBytes, type Bytes } from '../layout/units.ts';
import type { Run as BlockRun, Segment } from '../place/assign.ts';
import { DonorStock, spendableBlocks } from '../place/donors.ts';
import { FreeMap, type FreeRun } from '../place/freeMap.ts';
import { OwnerMap, type OwnedExtent } from '../place/owners.ts';
import { Tokens, TOKENS } from '../place/tokens.ts';
import { relocationsOf, undoRanges } from '../plan/follow.ts';
import { clip, relocate, type Relocation } from '../plan/plan.ts';
import type { PlanStep } from '../plan/planFile.ts';
import type { MovingEvent } from '../report/events.ts';
import { counted } from '../report/format.ts';
import { moveBatch, type BatchContext } from './batch.ts';
import { leftAlone, type Candidate, type Outcome, type Verdict } from './candidate.ts';
import type { Run } from './defragment.ts';
import { ExactPlaces, gapsIn } from './exactPlaces.ts';
import { Gathering } from './gathering.ts';
import { watched, Watchdog } from './watchdog.ts';

const MiB = 1024 * 1024;

/** Bytes that are moved to a third place at a time at most. */
const MOST_ASIDE = 64 * MiB;
const USERS = 'are in use by others, or by the kernel for what a file is made of (extent trees)';
/** The share of what may be allocated that is held from the beginning: to go to a third place takes some. */
const MOST_HELD = 0.75;
/** How often places that are free are asked for before a file stays. */
const TRIES = 3;
/** Donors in a row that are asked for blocks of a third place. */
const ASKED = 8;

/** A file that is to be put back. */
interface Returning {
  readonly candidate: Candidate;
  /** Where it is to lie again, up to its end. */
  readonly home: ExtentTable;
  /** What moves it there from where it lies now. */
  step: PlanStep;
  /** Merged, and whole. */
  now: ExtentTable;
  wants: readonly Relocation[];
  tries: number;
  why: string | undefined;
}

/**
 * Puts files back that an undo file is for. They lie in each other's old places, in chains and in circles: a file goes
 * back when its old place is free, and what it leaves is held for who lay there before. Where nobody's place is free, what
 * lies in the way of some goes to a third place first.
 *
 * @param candidates with their steps, which have been found to fit
 */
export async function* restore(
  candidates: readonly Candidate[],
  run: Run,
  surroundings: BatchContext,
): AsyncGenerator<MovingEvent, void, void> {
  using watchdog = await Watchdog.start(surroundings);
  const work = new Restoration(candidates, watched(surroundings, watchdog));
  try {
    for await (const outcome of work.outcomes()) {
      yield* run.tell(watchdog.explain(outcome), surroundings);
      if (outcome.kind === 'defragmented') await run.saveNowAndThen();
    }
  } finally {
    await work.close();
  }
}

class Restoration {
  readonly #context: BatchContext;
  /** By inode. */
  readonly #returning = new Map<number, Returning>();
  /** Whose blocks are whose now, as far as files are concerned that were to be put back. */
  readonly #owners = new OwnerMap();
  readonly #places: ExactPlaces;
  /** Temporary files, and what they hold of old places. */
  #fds: number[] = [];
  #tokens = new Tokens([]);

  constructor(candidates: readonly Candidate[], context: BatchContext) {
    this.#context = context;
    const { blockSize } = context.filesystem;
    for (const candidate of candidates) {
      const { file, prescribed } = candidate;
      const { step } = prescribed!;
      const wants = relocationsOf(step, blockSize);
      const home = relocate(clip(file.extents, toBlocks(file.size, blockSize)), wants);
      const returning = { candidate, home, step, now: file.extents, wants, tries: 0, why: undefined };
      this.#returning.set(file.inode, returning);
      this.#own(file.inode, file.extents);
    }
    this.#places = new ExactPlaces(context, undefined, (block) => {
      const [owner] = this.#owners.within(block, block + 1);
      return owner && { inode: owner.inode, logical: owner.logical + block - owner.physical };
    });
  }

  async *outcomes(): AsyncGenerator<Exclude<Outcome, { kind: 'again' }>, void, void> {
    const { budget } = this.#context;
    await this.#holdFree();
    while (this.#returning.size > 0 && !budget.signal.aborted) {
      const { ready, blocked, taken } = this.#sort(await this.#freeNow());
      if (ready.length > 0) yield* this.#putBack(ready);
      else if (yield* this.#clear(blocked)) continue;
      // What is in the way may be the trees of our own temporary files.
      else if (this.#fds.length > 0) await this.#letGo([]);
      else if (taken.length === 0) break;
      // Who stays is in the way of others for good.
      else for (const file of taken) yield this.#giveUp(file, 'place-taken');
    }
    const reason = budget.signal.aborted ? this.#context.ending() : 'place-taken';
    for (const file of this.#returning.values()) yield this.#giveUp(file, reason);
  }

  /** What is free, when everything is committed that was freed. */
  async #freeNow(): Promise<FreeMap> {
    const { barrier, dirFd, filesystem } = this.#context;
    await barrier.commit();
    return FreeMap.read(dirFd, filesystem.blockSize, filesystem.geometry);
  }

  /** Takes hold of all old places that are free, or as many as may be: the kernel puts the files' trees elsewhere then. */
  async #holdFree(): Promise<void> {
    const { dirFd, reserveShare } = this.#context;
    const free = await this.#freeNow();
    let left = (await spendableBlocks(dirFd, reserveShare)) * MOST_HELD;
    const wants: FreeRun[] = [];
    for (const { wants: all } of this.#returning.values()) {
      for (const { physical, length } of all) {
        for (const part of free.within(physical, physical + length)) {
          left -= part.length;
          if (left >= 0) wants.push(part);
        }
      }
    }
    const { tokens, files } = await this.#places.take(wants, this.#context);
    this.#fds.push(...files);
    this.#tokens = tokens;
  }

  /** Gives up what is held. Everything that was moved is committed before. */
  async close(): Promise<void> {
    const fds = this.#fds;
    this.#fds = [];
    try {
      if (fds.length > 0) await this.#context.barrier.commit();
    } finally {
      await Promise.all(fds.map(closeFd));
    }
  }

  #own(inode: number, extents: ExtentTable): void {
    for (const { logical, physical, length } of extents)
      this.#owners.set({ inode, logical, physical, length });
  }

  #giveUp({ candidate, why }: Returning, reason: Parameters<typeof leftAlone>[1]): Verdict {
    this.#returning.delete(candidate.file.inode);
    return leftAlone(candidate, reason, why);
  }

  /** Who can go back now, who has files in the way that are to go back as well, and who something else. */
  #sort(free: FreeMap) {
    const ready: Returning[] = [];
    const blocked: { file: Returning; inTheWay: OwnedExtent[]; size: number }[] = [];
    const taken: Returning[] = [];
    for (const file of this.#returning.values()) {
      const inTheWay: OwnedExtent[] = [];
      let lost = 0;
      for (const { physical: start, length } of file.wants) {
        for (const gap of gapsIn({ start, length }, this.#tokens)) {
          let missing: number = gap.length;
          for (const part of free.within(gap.start, gap.start + gap.length)) missing -= part.length;
          if (missing === 0) continue;
          for (const owned of this.#owners.within(gap.start, gap.start + gap.length)) {
            if (!this.#returning.has(owned.inode)) continue;
            const part = partWithin(owned, gap.start, gap.start + gap.length);
            missing -= part.length;
            inTheWay.push(part);
          }
          lost += missing;
        }
      }
      file.why = lost === 0 ? undefined : `${counted(lost, 'block')} of its old place ${USERS}`;
      if (lost > 0) taken.push(file);
      else if (inTheWay.length === 0) ready.push(file);
      else blocked.push({ file, inTheWay, size: inTheWay.reduce((sum, { length }) => sum + length, 0) });
    }
    return { ready, blocked, taken };
  }

  /** Puts files back whose places are free or held. */
  async *#putBack(
    ready: readonly Returning[],
  ): AsyncGenerator<Exclude<Outcome, { kind: 'again' }>, void, void> {
    const { budget } = this.#context;
    const gathering = new Gathering();
    const batches = ready.flatMap(({ candidate }) => gathering.add(candidate));
    batches.push(gathering.take());
    for (const batch of batches) {
      if (batch.length === 0 || budget.signal.aborted) continue;
      const files = batch.map(({ file }) => this.#returning.get(file.inode)!);
      const placed = await this.#takePlaces(files);
      for (const file of files) {
        if (placed.some(({ file: { inode } }) => inode === file.candidate.file.inode)) continue;
        // Somebody else was faster, or it does not fit beside the reserve before others have gone.
        if (++file.tries === TRIES) yield this.#giveUp(file, 'not-put-back');
      }
      for await (const outcome of this.#move(placed)) {
        if (outcome.kind !== 'skip' && outcome.kind !== 'failed' && outcome.kind !== 'defragmented') {
          yield outcome;
          continue;
        }
        const { inode } = outcome.candidate.file;
        const file = this.#returning.get(inode)!;
        if (outcome.kind === 'defragmented') this.#moved(file, outcome.layouts.after);
        this.#returning.delete(inode);
        yield outcome;
      }
      await this.#letGo();
    }
  }

  /** Takes hold of the places of files. @returns those that got all of theirs, ready to be moved */
  async #takePlaces(files: readonly Returning[]): Promise<Candidate[]> {
    const { dirFd, filesystem, pageSize, reserveShare } = this.#context;
    const blocksPerPage = Math.max(1, pageSize / filesystem.blockSize);
    const wants = files.flatMap((file) =>
      file.wants.map((want) => ({ start: want.physical, length: want.length, want })),
    );
    const missing = wants.flatMap((want) => gapsIn(want, this.#tokens));
    if (missing.length > 0) {
      const need = missing.reduce((sum, { length }) => sum + length, 0);
      // What is held for others can be had again.
      if (need > (await spendableBlocks(dirFd, reserveShare))) await this.#letGo(files);
      const {
        tokens,
        files: fds,
        why,
      } = await this.#places.take(wants, this.#context, { held: this.#tokens });
      this.#fds.push(...fds);
      this.#tokens = tokens;
      for (const file of files) file.why = why;
    }
    return files.flatMap(({ candidate, step, wants }) => {
      const segments = wants.map((want) => segmentsAt(want, this.#tokens, blocksPerPage));
      if (segments.includes(undefined)) return [];
      return [
        { ...candidate, prescribed: { kind: 'undo', step, segments: segments.flatMap((some) => some!) } },
      ];
    });
  }

  /** Moves files to places that are held. */
  async *#move(
    candidates: readonly Candidate[],
  ): AsyncGenerator<Exclude<Outcome, { kind: 'again' }>, void, void> {
    const { pace, budget } = this.#context;
    if (candidates.length === 0) return;
    // Before anything is opened: a pause holds up nobody.
    for await (const pause of pace.wait(0, budget.signal)) yield { kind: 'pause', pause };
    if (budget.signal.aborted) return;
    for await (const outcome of moveBatch(candidates, this.#context)) {
      // What does not fit into what may still be moved has its turn again.
      if (outcome.kind !== 'again') yield outcome;
    }
  }

  /** Notes where a file lies now. */
  #moved(file: Returning, now: ExtentTable): void {
    for (const { physical, length } of file.now) this.#owners.clear(physical, length);
    file.now = now;
    this.#own(file.candidate.file.inode, now);
  }

  /**
   * Moves what lies in the way of some files, those with the least of it first, to a third place.
   *
   * @returns whether that was of any use
   */
  async *#clear(
    blocked: readonly { inTheWay: readonly OwnedExtent[]; size: number }[],
  ): AsyncGenerator<Exclude<Outcome, { kind: 'again' }>, boolean, void> {
    const { filesystem, dirFd, pageSize, budget, reserveShare } = this.#context;
    const { blockSize } = filesystem;
    // Where blocks are smaller than pages, what is vacated lies seldom as its next owner needs it.
    if (pageSize !== blockSize) return false;
    const most = Math.min(MOST_ASIDE, budget.bytesLeft) / blockSize;
    const parts = new Map<number, OwnedExtent[]>();
    let sum = 0;
    const space = await spendableBlocks(dirFd, reserveShare);
    for (const { inTheWay, size } of blocked.toSorted((a, b) => a.size - b.size)) {
      if (sum + size > Math.min(most, space / 2) && sum > 0) break;
      sum += size;
      for (const part of inTheWay) parts.set(part.inode, [...(parts.get(part.inode) ?? []), part]);
    }
    const room = await this.#roomFor(sum);
    const candidates: Candidate[] = [];
    for (const [inode, mine] of parts) {
      const file = this.#returning.get(inode)!;
      const segments = room.place(mine);
      if (segments === undefined) break;
      const step = { ...file.step, ranges: rangesOf(segments, blockSize) };
      candidates.push({ ...file.candidate, prescribed: { kind: 'undo', step, segments } });
    }
    let moved = false;
    for await (const outcome of this.#move(candidates)) {
      if (outcome.kind === 'moving') yield { ...outcome, kind: 'evacuated' };
      else if (outcome.kind === 'defragmented') {
        moved = true;
        this.#replan(outcome);
      } else if (outcome.kind === 'skip' || outcome.kind === 'failed') {
        const file = this.#returning.get(outcome.candidate.file.inode)!;
        this.#returning.delete(outcome.candidate.file.inode);
        moved = true;
        yield { ...outcome, candidate: file.candidate };
      } else yield outcome;
    }
    await this.#letGo();
    return moved;
  }

  /** What puts a file back from its third place. */
  #replan(verdict: Verdict & { kind: 'defragmented' }): void {
    const { blockSize } = this.#context.filesystem;
    const file = this.#returning.get(verdict.candidate.file.inode)!;
    const { after, size } = verdict.layouts;
    this.#moved(file, after);
    file.wants = undoRanges(file.home, clip(after, toBlocks(size, blockSize)));
    file.step = { ...file.step, fingerprint: fingerprint(after), ranges: rangesOf(file.wants, blockSize) };
  }

  /** Allocates blocks for third places. What is somebody's old place is held for him. */
  async #roomFor(count: number): Promise<ThirdPlaces> {
    const { dirFd, filesystem, reserveShare } = this.#context;
    const wanted = this.#wanted(this.#returning.values());
    const stock = new DonorStock([dirFd], filesystem.blockSize, reserveShare);
    const runs: BlockRun[] = [];
    let left = count;
    try {
      for (let i = 0; i < ASKED && left > 0; i++) {
        const before = new Set(stock.runs());
        if (!(await stock.add(blocks(left), false))) break;
        for (const run of stock.runs()) {
          if (before.has(run)) continue;
          for (const part of unwantedIn(run, wanted)) {
            runs.push(part);
            left -= part.length;
          }
        }
      }
    } finally {
      this.#fds.push(...new Set([...stock.runs()].map(({ donorFd }) => donorFd)));
      stock.letGo();
    }
    return new ThirdPlaces(runs);
  }

  #wanted(files: Iterable<Returning>): OwnerMap {
    const wanted = new OwnerMap();
    for (const { candidate, wants } of files) {
      for (const want of wants) wanted.set({ inode: candidate.file.inode, ...want });
    }
    return wanted;
  }

  /** Lets go of what no file waits for, after a commit. @param files those for which something is held; all, if none are named */
  async #letGo(files: Iterable<Returning> = this.#returning.values()): Promise<void> {
    const { filesystem, barrier } = this.#context;
    const { blockSize } = filesystem;
    await barrier.commit();
    const wanted = this.#wanted(files);
    const { pieces } = await Tokens.within(this.#fds, blockSize, 0, Infinity);
    const kept: BlockRun[] = [];
    const dropped: BlockRun[] = [];
    for (const piece of pieces) {
      kept.push(...wantedIn(piece, wanted));
      dropped.push(...unwantedIn(piece, wanted));
    }
    const used = new Set(kept.map(({ donorFd }) => donorFd));
    for (const { donorFd, start, length } of dropped) {
      if (!used.has(donorFd)) continue;
      const range = [toBytes(start, blockSize), toBytes(length, blockSize)] as const;
      await fallocate(donorFd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, ...range);
    }
    await Promise.all(this.#fds.filter((fd) => !used.has(fd)).map(closeFd));
    this.#fds = [...used];
    this.#tokens = new Tokens(kept);
    await barrier.commit();
  }
}

/** Blocks of temporary files that are nobody's old place. */
class ThirdPlaces {
  readonly #runs: BlockRun[];

  constructor(runs: readonly BlockRun[]) {
    this.#runs = [...runs];
  }

  /** @returns where parts of a file go, in logical order; undefined when there is not enough */
  place(parts: readonly OwnedExtent[]): Segment[] | undefined {
    const segments: Segment[] = [];
    for (const { logical, length } of parts.toSorted((a, b) => a.logical - b.logical)) {
      for (let done = 0; done < length;) {
        const run = this.#runs.shift();
        if (run === undefined) return undefined;
        const count = Math.min(run.length, length - done);
        segments.push({
          donorFd: run.donorFd,
          donor: run.start,
          logical: blocks(logical + done),
          physical: run.physical,
          length: blocks(count),
        });
        if (count < run.length) this.#runs.unshift(cut(run, run.physical + count, run.physical + run.length));
        done += count;
      }
    }
    return segments;
  }
}

/** The blocks of a run from one to another of the device. */
const cut = (run: BlockRun, from: number, to: number): BlockRun => ({
  donorFd: run.donorFd,
  start: blocks(run.start + from - run.physical),
  physical: blocks(from),
  length: blocks(to - from),
});

function wantedIn(run: BlockRun, wanted: OwnerMap): BlockRun[] {
  const end = run.physical + run.length;
  return wanted
    .within(run.physical, end)
    .map(({ physical, length }) =>
      cut(run, Math.max(physical, run.physical), Math.min(physical + length, end)),
    );
}

function unwantedIn(run: BlockRun, wanted: OwnerMap): BlockRun[] {
  const parts: BlockRun[] = [];
  let at: number = run.physical;
  for (const { physical, length } of wantedIn(run, wanted)) {
    if (physical > at) parts.push(cut(run, at, physical));
    at = physical + length;
  }
  const end = run.physical + run.length;
  if (end > at) parts.push(cut(run, at, end));
  return parts;
}

function partWithin(
  { inode, logical, physical, length }: OwnedExtent,
  from: number,
  to: number,
): OwnedExtent {
  const start = Math.max(physical, from);
  const end = Math.min(physical + length, to);
  return { inode, logical: logical + start - physical, physical: start, length: end - start };
}

/** The segments that put a stretch of a file in its place; undefined when not all of that is held. */
function segmentsAt(
  { logical, physical, length }: Relocation,
  tokens: Tokens,
  blocksPerPage: number,
): Segment[] | undefined {
  const pieces = tokens.segments({ donorFd: TOKENS, donor: physical, logical, physical, length });
  if (pieces.reduce((sum, piece) => sum + piece.length, 0) < length) return undefined;
  // Where blocks are smaller than pages the kernel exchanges only what lies alike in its page.
  return pieces.every((piece) => (piece.donor - piece.logical) % blocksPerPage === 0) ? pieces : undefined;
}

const rangesOf = (places: readonly Relocation[], blockSize: Bytes): PlanStep['ranges'] =>
  places.map(({ logical, physical, length }) => ({
    offset: bytes(logical * blockSize),
    length: toBytes(length, blockSize),
    fragments: 1,
    destination: { start: physical, length },
  }));
