/**
 * Finds a short log that fails still, by leaving out ever smaller parts of it (delta debugging, after Zeller).
 *
 * @param log that fails
 * @param failingPart what of a log fails, which may be less than all of it, or undefined when nothing does
 * @param over ends it early
 */
export async function shrink<T>(
  log: readonly T[],
  failingPart: (log: readonly T[]) => Promise<readonly T[] | undefined>,
  over: () => boolean = () => false,
): Promise<readonly T[]> {
  let shortest = log;
  for (let size = Math.ceil(log.length / 2); size >= 1;) {
    let found = false;
    for (let at = 0; at < shortest.length && !over();) {
      const without = [...shortest.slice(0, at), ...shortest.slice(at + size)];
      const failing = await failingPart(without);
      if (failing === undefined) at += size;
      else [shortest, found] = [failing, true];
    }
    // What could not be left out before may be superfluous now.
    if (size > 1) size = Math.ceil(size / 2);
    else if (!found || over()) break;
  }
  return shortest;
}
