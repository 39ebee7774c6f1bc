import { FALLOC, fallocate } from '../kernel/allocate.ts';
import { FADV, fadvise } from '../kernel/cache.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { closeFd } from '../kernel/handle.ts';
import type { ExtentTable } from '../layout/extents.ts';
import { fingerprint } from '../layout/fingerprint.ts';
import { countFragments } from '../layout/fragments.ts';
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
import type { Reason } from '../scan/reasons.ts';
import { currentLayout, openForMove } from '../scan/scan.ts';
import { moveBatch, placeWhereFree, readingContext, type BatchContext } from './batch.ts';
import { leftAlone, type Candidate, type Outcome, type Verdict } from './candidate.ts';
import { Budget } from './budget.ts';
import type { Run } from './defragment.ts';
import { ExactPlaces, gapsIn } from './exactPlaces.ts';
import { Gathering } from './gathering.ts';
import { butFor, withoutStaying, type Blocked, type Returning } from './returning.ts';
import { between, blocksOf, partWithin, without } from './stretches.ts';
import { ThirdPlaces, unwantedIn, wantedIn } from './thirdPlaces.ts';
import { watched, Watchdog } from './watchdog.ts';

const MiB = 1024 * 1024;

/** Bytes that are moved to a third place at a time at most. */
const MOST_ASIDE = 64 * MiB;
/** Blocks of a file that are worth a round, when it does not fit in as a whole. */
const LEAST_PART = 256;
/** Rounds in a row that put no more blocks back before it is given up: there must be an end whatever happens. */
const MOST_IDLE = 4;
/** The share of a file's old place that may be lost when it goes out of the way of others: it goes back but for that. */
const MOST_LOST = 0.1;
/** The same where otherwise nothing would go back any more: who stays keeps all from it who wait for him. */
const MOST_LOST_AT_LAST = 0.5;
/** How often it is tried to put files in order again that cannot be put back and have been moved. */
const REPAIRS = 3;
/** The share of what may be allocated that is held from the beginning: to go to a third place takes some. */
const MOST_HELD = 0.75;
/** How often places that are free are asked for before a file stays. */
const TRIES = 3;
/** Donors in a row that are asked for blocks of a third place. */
const ASKED = 8;

/** What is told of a file that has been moved and cannot be put back, when all is done that can be done for it. */
interface Stranded {
  readonly file: Returning;
  readonly verdict: Exclude<Verdict, { kind: 'defragmented' }>;
}

type Told = AsyncGenerator<Exclude<Outcome, { kind: 'again' }>, void, void>;

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
    for await (const outcome of watchdog.guard(work.outcomes())) {
      yield* run.tell(watchdog.explain(outcome), surroundings);
      if (outcome.kind === 'defragmented') await run.saveNowAndThen();
    }
  } finally {
    // Nobody asks for more; at its end this does nothing.
    for await (const outcome of work.end()) void outcome;
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
  readonly #stranded: Stranded[] = [];
  #ended = false;
  #mostLost = MOST_LOST;
  /** What is being moved. */
  #inHand: readonly Candidate[] = [];
  /** Where files lie that were moved, by inode. */
  readonly #arrivals = new Map<number, ExtentTable>();

  constructor(candidates: readonly Candidate[], context: BatchContext) {
    this.#context = context;
    const { blockSize } = context.filesystem;
    for (const candidate of candidates) {
      const { file, prescribed } = candidate;
      const { step } = prescribed!;
      const wants = relocationsOf(step, blockSize);
      const home = relocate(clip(file.extents, toBlocks(file.size, blockSize)), wants);
      const returning = {
        candidate,
        home,
        step,
        now: file.extents,
        wants,
        size: blocksOf(wants),
        resigned: [],
        moved: 0,
        tries: 0,
        why: undefined,
      };
      this.#returning.set(file.inode, returning);
      this.#own(file.inode, file.extents);
    }
    this.#places = new ExactPlaces(context, undefined, (block) => {
      const [owner] = this.#owners.within(block, block + 1);
      return owner && { inode: owner.inode, logical: owner.logical + block - owner.physical };
    });
  }

  async *outcomes(): Told {
    yield* this.#work();
    yield* this.end();
  }

  /** Gives up what is not done, and puts in order what lies in a third place. Once. */
  async *end(): Told {
    if (this.#ended) return;
    this.#ended = true;
    await this.#lookAfter(this.#inHand);
    const reason = this.#context.budget.signal.aborted ? this.#context.ending() : 'place-taken';
    for (const file of this.#returning.values()) {
      if (file.wants.length > 0) yield* this.#giveUp(file, reason);
      else yield leftAlone(file.candidate, 'place-taken', butFor(file.resigned));
    }
    await this.#close();
    // Who fills the filesystem needs the space more.
    if (reason !== 'no-space') yield* this.#repair();
    yield* this.#tellOfStranded();
  }

  async *#work(): Told {
    const { budget } = this.#context;
    await this.#holdFree();
    for (let idle = 0; this.#returning.size > 0 && idle < MOST_IDLE && !budget.signal.aborted;) {
      const away = this.#away;
      yield* this.#round();
      idle = this.#away < away ? 0 : idle + 1;
    }
  }

  /** Blocks that do not lie where they lay. What has gone back never goes away again, so there are ever fewer of them. */
  get #away(): number {
    let sum = 0;
    for (const { wants } of this.#returning.values()) sum += blocksOf(wants);
    return sum;
  }

  /** Puts back what can go back now; where nothing can, makes way for some. */
  async *#round(): Told {
    const { ready, blocked } = this.#sort(await this.#freeNow());
    const hopeful = blocked.filter(({ lost }) => lost.length === 0);
    if (ready.length > 0) yield* this.#putBack(ready);
    else if (hopeful.length > 0) yield* this.#clear(hopeful);
    // What is in the way may be the trees of our own temporary files.
    else if (this.#fds.length > 0) await this.#letGo([]);
    else if (!this.#resign(blocked)) this.#mostLost = MOST_LOST_AT_LAST;
  }

  /** Files that had to go out of the way, and cannot go back as a whole, shall go back but for what is lost. @returns whether there are any */
  #resign(blocked: readonly Blocked[]): boolean {
    const gone = blocked.filter(({ file }) => file.moved > 0);
    for (const { file, lost } of gone) {
      file.why = undefined;
      file.resigned = [...file.resigned, ...lost];
      this.#plan(file);
    }
    return gone.length > 0;
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
  async #close(): Promise<void> {
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

  *#giveUp(file: Returning, reason: Reason): Iterable<Verdict> {
    yield* this.#leave(file, leftAlone(file.candidate, reason, file.why));
  }

  /** A file is not put back. When it has been moved, that is told only when it has been put in order again. */
  *#leave(file: Returning, verdict: Verdict): Iterable<Verdict> {
    this.#returning.delete(file.candidate.file.inode);
    if (file.moved === 0 || verdict.kind === 'defragmented') yield verdict;
    else this.#stranded.push({ file, verdict });
  }

  /** Who can go back now, and who has something in the way that is not to stay where it is. */
  #sort(free: FreeMap): { ready: Returning[]; blocked: Blocked[] } {
    const ready: Returning[] = [];
    const blocked: Blocked[] = [];
    for (const file of this.#returning.values()) {
      // It has gone back as far as it can, and goes out of the way again if need be.
      if (file.wants.length === 0) continue;
      const inTheWay: { part: OwnedExtent; place: Relocation }[] = [];
      const lost: Relocation[] = [];
      for (const want of file.wants) {
        const placeAt = (from: number, length: number): Relocation => ({
          logical: blocks(want.logical + from - want.physical),
          physical: blocks(from),
          length: blocks(length),
        });
        for (const { start, length } of gapsIn({ start: want.physical, length: want.length }, this.#tokens)) {
          const end = start + length;
          const known: { start: number; length: number }[] = free.within(start, end);
          for (const owned of this.#owners.within(start, end)) {
            if (!this.#returning.has(owned.inode)) continue;
            const part = partWithin(owned, start, end);
            known.push({ start: part.physical, length: part.length });
            inTheWay.push({ part, place: placeAt(part.physical, part.length) });
          }
          for (const [from, to] of between(known, start, end)) lost.push(placeAt(from, to - from));
        }
      }
      if (lost.length === 0 && inTheWay.length === 0) ready.push(file);
      else blocked.push({ file, inTheWay, lost });
    }
    // Those that lie in a third place first.
    return {
      ready: ready.sort((a, b) => b.moved - a.moved),
      blocked: withoutStaying(blocked, this.#mostLost),
    };
  }

  /** Puts files back whose places are free or held. One that is larger than what may be held goes back in parts. */
  async *#putBack(ready: readonly Returning[]): Told {
    const { budget } = this.#context;
    const gathering = new Gathering();
    const batches = ready.flatMap(({ candidate }) => gathering.add(candidate));
    batches.push(gathering.take());
    for (const batch of batches) {
      if (batch.length === 0 || budget.signal.aborted) continue;
      const files = batch.map(({ file }) => this.#returning.get(file.inode)!);
      let placed = await this.#takePlaces(files);
      if (placed.length === 0) {
        await this.#letGo([files[0]]);
        placed = await this.#takePart(files[0]);
      }
      for (const file of files) {
        if (placed.some(({ file: { inode } }) => inode === file.candidate.file.inode)) continue;
        // Somebody else was faster, or it does not fit beside the reserve before others have gone.
        if (++file.tries === TRIES)
          yield* this.#giveUp(file, file.moved > 0 ? 'place-taken' : 'not-put-back');
      }
      yield* this.#move(placed, 'moving');
      await this.#letGo();
    }
  }

  /** Takes hold of the places of files. @returns those that got all of theirs, ready to be moved */
  async #takePlaces(files: readonly Returning[]): Promise<Candidate[]> {
    const { filesystem, pageSize } = this.#context;
    const blocksPerPage = Math.max(1, pageSize / filesystem.blockSize);
    const wants = files.flatMap((file) =>
      file.wants.map((want) => ({ start: want.physical, length: want.length, want })),
    );
    await this.#take(wants, files);
    return files.flatMap(({ candidate, step, wants }) => {
      const segments = wants.map((want) => segmentsAt(want, this.#tokens, blocksPerPage));
      if (segments.includes(undefined)) return [];
      return [
        { ...candidate, prescribed: { kind: 'undo', step, segments: segments.flatMap((some) => some!) } },
      ];
    });
  }

  /** Takes hold of blocks for files. */
  async #take(wants: readonly FreeRun[], files: readonly Returning[]): Promise<void> {
    const { dirFd, reserveShare } = this.#context;
    const need = blocksOf(wants.flatMap((want) => gapsIn(want, this.#tokens)));
    if (need === 0) return;
    // What is held for others can be had again.
    if (need > (await spendableBlocks(dirFd, reserveShare))) await this.#letGo(files);
    const { tokens, files: fds, why } = await this.#places.take(wants, this.#context, { held: this.#tokens });
    this.#fds.push(...fds);
    this.#tokens = tokens;
    for (const file of files) file.why = why;
  }

  /** Takes hold of as much of a file's places as may be held. */
  async #takePart(file: Returning): Promise<Candidate[]> {
    const free = await this.#freeNow();
    const { filesystem, pageSize } = this.#context;
    let left = await this.#mostAtOnce();
    const places: Relocation[] = [];
    for (const want of file.wants) {
      places.push(...this.#tokens.segments({ ...want, donorFd: TOKENS, donor: want.physical }));
      for (const gap of gapsIn({ start: want.physical, length: want.length }, this.#tokens)) {
        for (const { start, length } of free.within(gap.start, gap.start + gap.length)) {
          const fits = Math.min(left, length);
          left -= fits;
          const logical = blocks(want.logical + start - want.physical);
          if (fits > 0) places.push({ logical, physical: start, length: blocks(fits) });
        }
      }
    }
    places.sort((a, b) => a.logical - b.logical);
    const wants = places.map(({ physical: start, length }) => ({ start, length }));
    await this.#take(wants, [file]);
    const blocksPerPage = Math.max(1, pageSize / filesystem.blockSize);
    const segments = places.flatMap((place) => segmentsAt(place, this.#tokens, blocksPerPage) ?? []);
    return segments.length === 0 ? [] : [this.#inParts(file, segments)];
  }

  /** A file that goes to places that are held for parts of it, in logical order. */
  #inParts({ candidate, step }: Returning, segments: readonly Segment[]): Candidate {
    const ranges = rangesOf(segments, this.#context.filesystem.blockSize);
    return { ...candidate, prescribed: { kind: 'undo', step: { ...step, ranges }, segments } };
  }

  /** Moves files to places that are held, and notes where they are then. @param as what is told of it meanwhile */
  async *#move(candidates: readonly Candidate[], as: 'moving' | 'evacuated'): Told {
    const { pace, budget } = this.#context;
    if (candidates.length === 0) return;
    // Before anything is opened: a pause holds up nobody.
    for await (const pause of pace.wait(0, budget.signal)) yield { kind: 'pause', pause };
    if (budget.signal.aborted) return;
    await this.#dropFolios(candidates);
    this.#inHand = candidates;
    for await (const outcome of moveBatch(candidates, this.#context)) {
      if (outcome.kind === 'moving') yield { ...outcome, kind: as };
      else if (outcome.kind === 'defragmented') yield* this.#arrived(outcome);
      else if (outcome.kind === 'skip' || outcome.kind === 'failed') {
        const file = this.#returning.get(outcome.candidate.file.inode)!;
        const isBusy = outcome.kind === 'skip' && outcome.reason === 'busy';
        if (isBusy && ++file.tries < TRIES) continue;
        yield* this.#leave(file, { ...outcome, candidate: file.candidate });
      }
      // What does not fit into what may still be moved has its turn again.
      else if (outcome.kind !== 'again') yield outcome;
    }
    this.#inHand = [];
  }

  #note(file: Returning, now: ExtentTable, moved: number): void {
    const { inode } = file.candidate.file;
    for (const { physical, length } of file.now) this.#owners.clear(physical, length);
    file.now = now;
    this.#arrivals.set(inode, now);
    this.#own(inode, now);
    file.moved += moved;
    this.#plan(file);
  }

  /** Looks where files lie that were being moved when nobody asked for more. */
  async #lookAfter(candidates: readonly Candidate[]): Promise<void> {
    for (const { file } of candidates) {
      const returning = this.#returning.get(file.inode);
      if (returning === undefined) continue;
      try {
        const fd = await openForMove(file);
        if (fd === undefined) continue;
        const { extents } = await currentLayout(fd, file).finally(() => closeFd(fd));
        if (fingerprint(extents) !== fingerprint(returning.now))
          this.#note(returning, extents, blocksOf(returning.wants));
        if (returning.wants.length === 0 && returning.resigned.length === 0)
          this.#returning.delete(file.inode);
      } catch (error) {
        // It cannot be put in order then, either.
        if (!isSystemFailure(error)) throw error;
      }
    }
  }

  /**
   * Where a folio that has become dirty in part costs a commit for each of its pages, one over the end of what is moved
   * must not be in the cache when the rest is.
   */
  async #dropFolios(candidates: readonly Candidate[]): Promise<void> {
    if (!readingContext(this.#context).dropFolios) return;
    for (const { file } of candidates) {
      if (this.#returning.get(file.inode)!.moved === 0) continue;
      try {
        const fd = await openForMove(file);
        if (fd === undefined) continue;
        await fadvise(fd, bytes(0), bytes(0), FADV.DONTNEED).finally(() => closeFd(fd));
      } catch (error) {
        // The move meets the same error, and tells of it.
        if (!isSystemFailure(error)) throw error;
      }
    }
  }

  /** Notes where a file lies now, and what puts it back from there if it is not back. */
  *#arrived(verdict: Verdict & { kind: 'defragmented' }): Iterable<Verdict> {
    const { candidate, moved, layouts, gain } = verdict;
    const { after } = layouts;
    const file = this.#returning.get(candidate.file.inode)!;
    this.#note(file, after, moved);
    // Of one that has gone back but for some blocks it is told at the end: these may still be in somebody's way.
    if (file.wants.length > 0 || file.resigned.length > 0) return;
    this.#returning.delete(candidate.file.inode);
    const before = file.candidate.file.extents;
    yield {
      ...verdict,
      moved: blocks(file.moved),
      gain: { ...gain, fragmentsBefore: countFragments(before), extentsBefore: before.count },
      layouts: { ...layouts, before },
    };
  }

  /** What puts a file back from where it lies. */
  #plan(file: Returning): void {
    const { blockSize } = this.#context.filesystem;
    const { home, now, resigned, candidate } = file;
    const wants = undoRanges(home, clip(now, toBlocks(candidate.file.size, blockSize)));
    file.wants = wants.flatMap((want) => without(want, resigned));
    file.step = { ...file.step, fingerprint: fingerprint(now), ranges: rangesOf(file.wants, blockSize) };
  }

  /** Moves what lies in the way of some files, those with the least of it first, to a third place. */
  async *#clear(blocked: readonly Blocked[]): Told {
    const { filesystem, pageSize } = this.#context;
    const [first, ...others] = blocked
      .map((one) => ({ ...one, size: blocksOf(one.inTheWay.map(({ part }) => part)) }))
      .sort((a, b) => a.size - b.size);
    // Where blocks are smaller than pages, what is vacated lies seldom as its next owner needs it.
    if (pageSize !== filesystem.blockSize) {
      first.file.why =
        'other files lie in its old place, which only give way where blocks are as large as pages';
      yield* this.#giveUp(first.file, 'place-taken');
      return;
    }
    if (first.size > (await this.#mostAtOnce())) await this.#letGo([first.file]);
    const most = await this.#mostAtOnce();
    if (most < Math.min(first.size, LEAST_PART)) {
      yield* this.#giveUp(first.file, 'no-space');
      return;
    }
    let sum = first.size;
    const targets = [first];
    for (const other of others) {
      if (sum + other.size > most) break;
      sum += other.size;
      targets.push(other);
    }
    const parts = new Map<number, OwnedExtent[]>();
    let left = most;
    for (const { part } of targets.flatMap(({ inTheWay }) => inTheWay)) {
      if (left <= 0) break;
      const fits = { ...part, length: Math.min(part.length, left) };
      left -= fits.length;
      parts.set(part.inode, [...(parts.get(part.inode) ?? []), fits]);
    }
    const files = targets.map(({ file }) => file);
    const room = await this.#roomFor(most - left, files);
    const candidates: Candidate[] = [];
    for (const [inode, mine] of parts) {
      const segments = room.place(mine);
      if (segments === undefined) break;
      candidates.push(this.#inParts(this.#returning.get(inode)!, segments));
    }
    yield* this.#move(candidates, 'evacuated');
    await this.#letGo();
    if (first.size <= most) return;
    // Of one that is too large for all of it what there is room for now; and what has made way for that goes back to
    // where it lay, so that the third place is free again.
    for (const inode of [first.file.candidate.file.inode, ...parts.keys()]) {
      const file = this.#returning.get(inode);
      if (file === undefined || file.wants.length === 0) continue;
      yield* this.#move(await this.#takePart(file), 'moving');
      await this.#letGo();
    }
  }

  /** Blocks that may be moved to and fro at once. */
  async #mostAtOnce(): Promise<number> {
    const { filesystem, dirFd, budget, reserveShare } = this.#context;
    const space = await spendableBlocks(dirFd, reserveShare);
    return Math.floor(
      Math.min(MOST_ASIDE / filesystem.blockSize, budget.bytesLeft / filesystem.blockSize, space / 2),
    );
  }

  /**
   * Puts files in order again that could not be put back, have been moved, and lie in more fragments than they did:
   * where they were found, or anywhere. That must be done whoever has ended the work.
   */
  async *#repair(): Told {
    using budget = new Budget(undefined, {});
    const context = { ...this.#context, budget };
    const worse = () =>
      this.#stranded.flatMap(({ file }) =>
        countFragments(file.now) > countFragments(file.candidate.file.extents) ? file : [],
      );
    if (worse().length === 0) return;
    const back = new Restoration(
      worse().map((file) => this.#backwards(file)),
      context,
    );
    try {
      for await (const outcome of back.#work()) if (isWork(outcome)) yield inBetween(outcome);
    } finally {
      await back.#close();
      for (const [inode, now] of back.#arrivals) this.#noteStranded(inode, now);
    }
    // No room is made for them: that would take files that have gone back out of the way.
    const anywhere = { ...context, placer: placeWhereFree };
    for (let pass = 0; pass < REPAIRS && worse().length > 0; pass++) {
      await context.barrier.commit();
      const gathering = new Gathering();
      const candidates = worse().map(({ candidate }) => ({ ...candidate, prescribed: undefined }));
      const batches = [...candidates.flatMap((candidate) => gathering.add(candidate)), gathering.take()];
      for (const batch of batches) {
        for await (const outcome of moveBatch(batch, anywhere)) {
          if (isWork(outcome)) yield inBetween(outcome);
          else if (outcome.kind === 'defragmented')
            this.#noteStranded(outcome.candidate.file.inode, outcome.layouts.after);
        }
      }
    }
  }

  #noteStranded(inode: number, now: ExtentTable): void {
    this.#stranded.find(({ file }) => file.candidate.file.inode === inode)!.file.now = now;
  }

  /** What puts a file where it was found. */
  #backwards({ candidate, step, now }: Returning): Candidate {
    const { blockSize } = this.#context.filesystem;
    const { file } = candidate;
    const end = toBlocks(file.size, blockSize);
    const ranges = rangesOf(undoRanges(clip(file.extents, end), clip(now, end)), blockSize);
    return {
      ...candidate,
      file: { ...file, extents: now },
      prescribed: { kind: 'undo', step: { ...step, fingerprint: fingerprint(now), ranges } },
    };
  }

  *#tellOfStranded(): Iterable<Verdict> {
    for (const { file, verdict } of this.#stranded) {
      const [was, is] = [countFragments(file.candidate.file.extents), countFragments(file.now)];
      const where = `it has gone out of the way of others, and lies in ${counted(is, 'fragment')} instead of ${was}`;
      yield verdict.kind === 'failed'
        ? verdict
        : { ...verdict, why: verdict.why === undefined ? where : `${verdict.why}; ${where}` };
    }
  }

  /**
   * Allocates blocks for third places. None of some files' old places, and rather nobody's: what is put in somebody's old
   * place has to go away once more.
   */
  async #roomFor(count: number, files: readonly Returning[]): Promise<ThirdPlaces> {
    const { dirFd, filesystem, reserveShare } = this.#context;
    const wanted = this.#wanted(this.#returning.values());
    const theirs = this.#wanted(files);
    const others: BlockRun[] = [];
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
          others.push(...wantedIn(run, wanted).flatMap((part) => unwantedIn(part, theirs)));
        }
      }
    } finally {
      this.#fds.push(...new Set([...stock.runs()].map(({ donorFd }) => donorFd)));
      stock.letGo();
    }
    return new ThirdPlaces([...runs, ...others]);
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

type Work = Outcome & { readonly kind: 'moving' | 'evacuated' | 'pause' };

const isWork = (outcome: Outcome): outcome is Work => ['moving', 'evacuated', 'pause'].includes(outcome.kind);

/** What is moved is not what was asked for. */
const inBetween = (outcome: Work): Work =>
  outcome.kind === 'moving' ? { ...outcome, kind: 'evacuated' } : outcome;

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
