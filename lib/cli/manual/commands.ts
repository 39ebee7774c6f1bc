import type { Command } from '../options.ts';

/** What the manual says of a command beyond its line in the help. */
export interface CommandManual {
  /** Paragraphs. */
  readonly text: readonly string[];
  readonly examples: readonly Example[];
}

export interface Example {
  readonly what: string;
  readonly command: string;
}

/** Every command that people type. */
export const COMMAND_MANUAL: Readonly<Record<Exclude<Command, 'completion'>, CommandManual>> = {
  defrag: {
    text: [
      'Asks the kernel where the files lie, moves what is worth moving into contiguous places, and asks again. Content, size, times, modes and attributes stay as they are, whatever other processes do meanwhile.',
      'Of a device or a mount point the files that gain most come first. What ends early, by a signal or at a limit, goes on where it stopped when it is run again.',
    ],
    examples: [
      { what: 'Everything below a directory', command: 'ext4-defrag /home' },
      {
        what: 'In portions, at night: run it again to go on',
        command: 'ext4-defrag --time-limit 1h --max-rate 50M /srv',
      },
      {
        what: 'For a script, without what changes all the time anyway',
        command: "ext4-defrag --json --exclude '*.log' /dev/sdb1",
      },
    ],
  },
  check: {
    text: [
      'Shows how many files are fragmented, what that costs when they are read, and which are worst. Needs no root for what the user may read; of a device or a mount point root reads the inode tables, which is much faster than looking at every name.',
    ],
    examples: [
      { what: 'The thirty worst files of a filesystem', command: 'ext4-defrag check --top 30 /dev/sdb1' },
      { what: 'Of one file', command: 'ext4-defrag check /var/lib/mysql/ibdata1' },
    ],
  },
  plan: {
    text: [
      'Says what defrag would move and what that would gain. With -o the plan is written into a file as JSON: steps may be taken out of it before apply carries it out.',
    ],
    examples: [
      { what: 'What would be moved, and of each file which ranges', command: 'ext4-defrag plan -v /home' },
      {
        what: 'Look before it is done',
        command: 'ext4-defrag plan -o plan.json /home && ext4-defrag apply plan.json',
      },
    ],
  },
  explain: {
    text: [
      'Shows of each file its extents, why it is worth moving or not, what moving it would cost and gain, what place there is for it, and what stands in the way: attributes of the file, the filesystem, permissions, free space, processes that have it open, and what earlier runs learned: that it fragments again soon after each move. Takes files only; with -v all extents are listed. Needs no root for what the user may read.',
    ],
    examples: [
      { what: 'Why a file stays in fragments', command: 'ext4-defrag explain /var/lib/mysql/ibdata1' },
    ],
  },
  apply: {
    text: [
      'Carries out what plan -o has written, or puts back what --keep-undo has recorded. A step whose file has changed since is refused; the others are done. A TARGET says on which filesystem, where that is not the one that the file names.',
    ],
    examples: [
      {
        what: 'Carry out a plan so that it can be undone',
        command: 'ext4-defrag apply --keep-undo undo.json plan.json',
      },
      { what: 'Undo it', command: 'ext4-defrag apply undo.json' },
    ],
  },
  space: {
    text: [
      'Shows free space by the length of its runs, what may be used of it beside the reserve, and what longer runs would cost. With --consolidate it moves files out of the way until free space lies in longer runs, and leaves these free. The options of moving go with --consolidate only.',
    ],
    examples: [
      { what: 'What free space there is', command: 'ext4-defrag space /home' },
      {
        what: 'One free run of 4 GiB, for a file that is to come',
        command: 'ext4-defrag space --consolidate --run 4G /srv',
      },
    ],
  },
  map: {
    text: [
      'Draws where everything lies: free space, files in one piece, fragmented files, and metadata; and names the most fragmented files. Of a file it draws where its extents lie. With --html it writes a page that is complete in itself, with -o a scan, and with --compare the page shows an earlier scan beside this one.',
    ],
    examples: [
      { what: 'In the terminal', command: 'ext4-defrag map /home' },
      { what: 'As a page, to zoom and to search', command: 'ext4-defrag map --html home.html /home' },
      {
        what: 'What a run changed, as a page',
        command: 'ext4-defrag --report home.html /home',
      },
    ],
  },
  demo: {
    text: [
      'Makes an ext4 of 512 MiB in a file, mounts it, fragments files on it, defragments them, shows where everything lies before and after, proves that nothing was lost, and takes everything away again. Needs root.',
    ],
    examples: [{ what: 'See it work', command: 'ext4-defrag demo' }],
  },
  help: {
    text: ['Prints what a command does, its options, and examples. Without COMMAND it names all there are.'],
    examples: [{ what: 'About the command space', command: 'ext4-defrag help space' }],
  },
};
