/** A mistake of the kernel in what is used here, and the first version of each series that is free of it. */
interface KernelBug {
  readonly name: string;
  readonly what: string;
  readonly mended: readonly string[];
}

/** Those of a series that is not listed are not known to have one: nothing is said of them. */
const BUGS: readonly KernelBug[] = [
  {
    name: 'CVE-2024-26704',
    what: 'an exchange that ends early can free blocks twice',
    mended: ['4.19.307', '5.4.269', '5.10.210', '5.15.149', '6.1.79', '6.6.18', '6.7.6'],
  },
  {
    name: 'CVE-2024-49881, CVE-2024-49883, CVE-2024-49884',
    what: 'splitting an extent can use memory that is freed already',
    mended: ['6.1.113', '6.11.3'],
  },
  {
    name: 'freed blocks with I/O in flight',
    what: 'blocks can be given to another file while they are still being written',
    mended: ['6.1.158', '6.12.55'],
  },
  {
    name: 'the check for quota files',
    what: 'a quota file can be exchanged',
    mended: ['6.1.160', '6.12.63'],
  },
];

/**
 * The stable release that a kernel is, or undefined where its name does not tell: distributors number their own releases,
 * and some bring fixes into an old version. Debian's kernels name theirs in the version.
 *
 * @param release as `uname -r` prints
 * @param version as `uname -v` prints
 */
function stableVersion(release: string, version: string): string | undefined {
  return /\bDebian (\d+\.\d+\.\d+)-/.exec(version)?.[1] ?? /^\d+\.\d+\.\d+$/.exec(release)?.[0];
}

/**
 * What is known to be wrong with a kernel, in words, with the version that is free of it; undefined where nothing is known.
 * That no mistake is known is no promise: the trial at the start decides whether it works.
 */
export function knownBugs(release: string, version: string): string | undefined {
  const stable = stableVersion(release, version);
  if (stable === undefined) return undefined;
  const [series, patch] = split(stable);
  const found = BUGS.flatMap(({ name, what, mended }) => {
    const free = mended.find((one) => split(one)[0] === series);
    return free !== undefined && patch < split(free)[1] ? [`${name} (${what}; mended in ${free})`] : [];
  });
  return found.length === 0 ? undefined : `Linux ${stable} has known bugs: ${found.join('; ')}`;
}

/** "6.1.79" is series "6.1", and 79. */
function split(version: string): [series: string, patch: number] {
  const last = version.lastIndexOf('.');
  return [version.slice(0, last), Number(version.slice(last + 1))];
}
