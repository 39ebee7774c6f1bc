const WORDS = {
  'already-contiguous': 'it is already as contiguous as the filesystem allows',
  'large-fragments': 'its fragments are long enough that moving them would gain nothing',
  empty: 'it is empty',
  'no-blocks': 'it has no blocks of its own: all hole, or not written to disk yet',
  'one-block': 'it has one block only',
  'not-regular': 'it is not a regular file',
  'other-filesystem': 'it is another filesystem',
  'no-extents': 'it is block-mapped, not extent-mapped, which the kernel cannot exchange',
  'inline-data': 'its data lie inside the inode',
  immutable: 'it is immutable: chattr -i lets it be moved',
  'append-only': 'it is append-only: chattr -a lets it be moved',
  'swap-file': 'it is in use as swap: swapoff lets it be moved',
  encrypted: 'it is encrypted, which the kernel cannot exchange',
  verity: 'it is protected by fs-verity, which the kernel cannot exchange',
  'journalled-data': 'its data are journalled (chattr +j), which the kernel cannot exchange',
  dax: 'it is accessed by DAX, which the kernel cannot exchange',
  running: 'it is a program that is being executed: try again when it has ended',
  'open-elsewhere': 'another process has it open, and --exclusive leaves such files alone',
  busy: 'its pages stayed busy; try again when it is less in use',
  'no-permission': 'permission denied: run as its owner or as root',
  'read-only': 'the filesystem is read-only: remount it read-write',
  'hard-link': 'it is another name of a file already seen',
  'lost-found': 'lost+found is left to e2fsck',
  excluded: 'it matches --exclude',
  'too-small': 'it is smaller than --min-size',
  'too-large': 'it is larger than --max-size',
  'not-in-target': 'the order list names it, and it is no file of a target: name a target that holds it',
  vanished: 'it went away or was replaced meanwhile',
  'name-too-long': 'its path is longer than the system can open: name a directory further down as the target',
  'no-better-place':
    'free space is in pieces: no better place was found for it (space --consolidate can make one)',
  'no-space': 'free space is at its reserve: make space, or lower --reserve',
  interrupted: 'the run was stopped before its turn: run it again to go on',
  budget: 'what this run may use up was used up before its turn: run it again to go on',
  'done-earlier': 'the run that this one continues has dealt with it already',
  'fragments-again':
    'it fragments again soon after it is moved; let its writer preallocate it or write larger pieces (--ignore-history moves it all the same)',
  'changed-since-plan':
    'it is not as it was when the plan was made: written to, replaced or removed since; make the plan anew',
  'place-taken': 'the blocks where it lay before are not free any more: nothing can put it back',
  'not-put-back': 'not all of it could be put back where it lay before, so it stays as it was',
  'not-improved': 'moving it did not make it more contiguous, so it was put back',
} as const;

/**
 * Why a file is left alone. The list is closed: scripts may rely on the names, and a file that stays as it was always
 * has one of them.
 */
export type Reason = keyof typeof WORDS;

/** Every reason for which a file is left alone, with the words for it. */
export const REASONS: Readonly<Record<Reason, string>> = WORDS;
