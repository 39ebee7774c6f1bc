import { isSystemFailure } from '../kernel/errors.ts';
import { closeFd } from '../kernel/handle.ts';
import type { DefragEvent, DefragSummary, NoticeEvent } from '../report/events.ts';
import type { Picture } from '../report/picture/picture.ts';
import { PAGE_TOP } from '../report/worst.ts';
import { UnsupportedTarget } from '../scan/filesystem.ts';
import { takePicture, type PictureOptions } from '../scan/picture.ts';
import { checkReplaceable, writePage } from '../scan/pictureFiles.ts';
import { listOf, Tally, type TargetPath } from '../scan/session.ts';
import { openTarget } from '../scan/targets.ts';
import { defragment, type DefragmentOptions } from './defragment.ts';

export interface ReportedRunOptions extends DefragmentOptions {
  /** Where to write a page that shows the filesystem before and after. There can be one target only then. */
  readonly report?: string | undefined;
}

type Events<T> = AsyncGenerator<DefragEvent, T, void>;

/**
 * {@link defragment}, with a page that shows where everything lay before and lies after. The page is written before
 * anything is moved, so that it cannot fail for a reason known then, and again at the end; a run that is stopped leaves
 * it as it was.
 *
 * @throws RangeError for a page of several targets, and as defragment does
 */
export async function* defragmentAndReport(
  targets: Iterable<TargetPath>,
  options: ReportedRunOptions = {},
): AsyncGenerator<DefragEvent, void, void> {
  const { report, ...rest } = options;
  if (report === undefined) {
    yield* defragment(targets, rest);
    return;
  }
  const paths = listOf(targets);
  if (paths.length !== 1) throw new RangeError('a page is of one target');
  const path = Buffer.from(paths[0]);
  const tally = new Tally();
  let before: Picture | undefined;
  try {
    await checkReplaceable(report);
    before = yield* pictureOrNotice(path, { top: PAGE_TOP, signal: options.signal });
    if (before !== undefined) await writePage(report, before, null);
  } catch (error) {
    if (!isSystemFailure(error)) throw error;
    yield tally.fail(Buffer.from(report), error);
  }
  // Where the page cannot be, nothing is moved: it was asked for.
  for await (const event of defragment(tally.failed > 0 ? [] : paths, rest)) {
    if (event.type !== 'summary') yield event;
    else yield* end(event, report, path, before, tally);
  }
}

/** The second picture and the page, before the summary. */
async function* end(
  summary: DefragSummary,
  report: string,
  path: Buffer,
  before: Picture | undefined,
  tally: Tally,
): Events<void> {
  if (before !== undefined && tally.failed === 0) {
    try {
      if (summary.interrupted)
        yield notice(`the run was stopped: ${report} shows only how everything lay before`);
      else yield* secondPage(report, path, before);
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      yield tally.fail(Buffer.from(report), error);
    }
  }
  yield { ...summary, failed: summary.failed + tally.failed };
}

async function* secondPage(report: string, path: Buffer, before: Picture): Events<void> {
  const now = yield* pictureOrNotice(path, { top: PAGE_TOP, also: before.named });
  if (now !== undefined) yield await writePage(report, now, before);
}

const notice = (message: string): NoticeEvent => ({ type: 'notice', about: 'report', message });

/** What is wrong with a target, its own run says as well; the page is then missing, and no failure. */
async function* pictureOrNotice(path: Buffer, options: PictureOptions): Events<Picture | undefined> {
  try {
    return await pictureOf(path, options);
  } catch (error) {
    if (!(error instanceof UnsupportedTarget) && !isSystemFailure(error)) throw error;
    yield notice(`no map for the report: ${error.message}`);
    return undefined;
  }
}

/** undefined when the signal was aborted, or the target has no layout. */
async function pictureOf(path: Buffer, options: PictureOptions): Promise<Picture | undefined> {
  const target = await openTarget(path);
  try {
    const steps = takePicture(target, options);
    for (;;) {
      const step = await steps.next();
      if (!step.done) continue;
      return typeof step.value === 'object' ? step.value.picture : undefined;
    }
  } finally {
    await closeFd(target.dirFd);
  }
}
