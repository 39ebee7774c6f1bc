// Lines of a kernel log after which a test result is worth nothing, unless the test meant to see them.

const fatal: readonly { readonly pattern: RegExp; readonly meaning: string }[] = [
  { pattern: /ext4-defrag-vm: error: /, meaning: 'the guest could not start' },
  { pattern: /Kernel panic - not syncing/, meaning: 'kernel panic' },
  { pattern: /soft lockup|hard lockup|workqueue lockup/i, meaning: 'lockup' },
  { pattern: /detected (expedited )?stalls?\b/, meaning: 'lockup (RCU stall)' },
  { pattern: /blocked for more than \d+ seconds/, meaning: 'hung task' },
  { pattern: /\bBUG: |kernel BUG at /, meaning: 'kernel bug' },
  { pattern: /\bOops\b/, meaning: 'kernel oops' },
  { pattern: /general protection fault/, meaning: 'general protection fault' },
  // Up to 6.18 "WARNING: CPU: 0 PID: 1 at FILE:LINE", then "WARNING: FILE:LINE at FUNCTION"; the others are lockdep's.
  {
    pattern: /WARNING: (CPU: \d|\S+:\d+ at |possible |suspicious |inconsistent )/,
    meaning: 'kernel warning',
  },
  { pattern: /UBSAN: /, meaning: 'undefined behaviour in the kernel' },
  { pattern: /Out of memory: Killed process/, meaning: 'out of memory (give the guest more with --memory)' },
  { pattern: /EXT4-fs error/, meaning: 'ext4 error' },
  { pattern: /EXT4-fs.*Remounting filesystem read-only/, meaning: 'ext4 error' },
  { pattern: /JBD2: .*(error|corrupt)/i, meaning: 'journal error' },
  { pattern: /\bI\/O error\b/, meaning: 'I/O error' },
];

/** A test that is about to provoke such lines says so in the log itself; an empty pattern takes that back. */
const expectation = /ext4-defrag-vm: expect(?: (.*))?$/;

/** Reads a kernel log line by line. */
export class LogWatch {
  readonly #allowed: readonly RegExp[];
  #expected: RegExp[] = [];

  /** `allowed` are lines that are expected during the whole run. */
  constructor(allowed: readonly RegExp[]) {
    this.#allowed = allowed;
  }

  /** What the line means if it ends the run. */
  judge(line: string): string | undefined {
    const announced = expectation.exec(line);
    if (announced) return this.#expect(announced[1] ?? '');
    const meaning = fatal.find(({ pattern }) => pattern.test(line))?.meaning;
    if (meaning === undefined) return undefined;
    return [...this.#allowed, ...this.#expected].some((pattern) => pattern.test(line)) ? undefined : meaning;
  }

  #expect(pattern: string): string | undefined {
    try {
      if (pattern === '') this.#expected = [];
      else this.#expected.push(new RegExp(pattern));
      return undefined;
    } catch {
      return 'the expected line is no regular expression';
    }
  }
}
