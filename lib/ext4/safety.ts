import { COMPAT, INCOMPAT, RO_COMPAT, type Features } from './superblock.ts';

export interface KernelVersion {
  readonly major: number;
  readonly minor: number;
}

/** From uname's release, such as "6.12.117+deb13-cloud-amd64". */
export function parseKernelVersion(release: string): KernelVersion {
  const match = /^(\d+)\.(\d+)/.exec(release);
  return { major: Number(match?.[1] ?? 0), minor: Number(match?.[2] ?? 0) };
}

export function atLeast(kernel: KernelVersion, major: number, minor: number): boolean {
  return kernel.major > major || (kernel.major === major && kernel.minor >= minor);
}

/** What decides whether a filesystem can be moved about on safely. */
export interface SafetyFacts {
  readonly readOnly: boolean;
  /** Mount options in effect (/proc/fs/ext4/DEVICE/options), or undefined where they cannot be read. */
  readonly options: ReadonlySet<string> | undefined;
  readonly features: Features | undefined;
  /** Whether fast_commit is seen at work, for kernels and users that cannot read the feature words. */
  readonly fastCommit: boolean | undefined;
  readonly kernel: KernelVersion;
}

/** The refusals that a user may override, knowing the risk. */
export interface SafetyOverrides {
  /** Move on a filesystem with fast_commit before Linux 7.0, where what is synced after a move can be lost in a crash. */
  readonly allowFastCommit: boolean;
  /** Move on a filesystem without a journal, where a crash would corrupt the files being moved. */
  readonly allowNoJournal: boolean;
}

/**
 * Why nothing may be moved on this filesystem, or undefined when it is safe. The first reason counts: the ones
 * that no option can override come first.
 */
export function refusal(facts: SafetyFacts, overrides: SafetyOverrides): string | undefined {
  const { features, options, kernel } = facts;
  if (facts.readOnly) return 'it is mounted read-only; remount it read-write first';
  if (features !== undefined && features.roCompat & RO_COMPAT.BIGALLOC) {
    return 'it has the bigalloc feature, whose clusters the kernel cannot exchange';
  }
  if (features !== undefined && !(features.incompat & INCOMPAT.EXTENT)) {
    return 'it has no extents, as an ext2 or ext3, and the kernel exchanges nothing else ("tune2fs -O extents" on the unmounted filesystem gives them to files made from then on)';
  }
  if (options?.has('data=journal')) {
    return 'it is mounted with data=journal, where the kernel cannot exchange blocks; mount it with data=ordered';
  }
  if (options?.has('dax') || options?.has('dax=always')) {
    return 'it is mounted with dax, where the kernel cannot exchange blocks; mount it with dax=never';
  }
  const journal = hasJournal(facts);
  if (journal === undefined) {
    return 'neither its mount options nor its superblock can be read, so whether it has a journal is unknown; run as root';
  }
  if (!journal && !overrides.allowNoJournal) {
    return 'it has no journal: a crash during a move would corrupt the files being moved (--allow-no-journal takes that risk)';
  }
  if (fastCommitLosesWrites(facts) && !overrides.allowFastCommit) {
    return `it has the fast_commit feature, and before Linux 7.0 (this is ${kernel.major}.${kernel.minor}) writes synced after a move can be lost in a crash (--allow-fast-commit takes that risk; "tune2fs -O ^fast_commit" on the unmounted filesystem removes it)`;
  }
  return undefined;
}

function hasJournal({ features, options }: SafetyFacts): boolean | undefined {
  if (features !== undefined) return (features.compat & COMPAT.HAS_JOURNAL) !== 0;
  // ext4 shows a data mode exactly when there is a journal (fs/ext4/super.c, _ext4_show_options).
  return options === undefined ? undefined : [...options].some((option) => option.startsWith('data='));
}

/** Fixed by 690558921d9f in Linux 7.0. */
function fastCommitLosesWrites({ features, fastCommit, kernel }: SafetyFacts): boolean {
  if (atLeast(kernel, 7, 0)) return false;
  return features === undefined ? fastCommit !== false : (features.compat & COMPAT.FAST_COMMIT) !== 0;
}
