/** The command's exit codes. */
export const EXIT = {
  OK: 0,
  FAILED: 1,
  USAGE: 2,
  UNSUPPORTED: 3,
  /** Ended at a limit that was given; another run can go on. */
  BUDGET: 4,
  INTERRUPTED: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/**
 * The exit code that a finished run has earned. That it was stopped says least about what is wrong, and comes first;
 * that it ended at its budget comes after all that is wrong.
 */
export function exitCodeOf(summary: {
  readonly interrupted: boolean;
  readonly failed: number;
  readonly unsupported: number;
  readonly budget?: unknown;
}): ExitCode {
  if (summary.interrupted) return EXIT.INTERRUPTED;
  if (summary.failed > 0) return EXIT.FAILED;
  if (summary.unsupported > 0) return EXIT.UNSUPPORTED;
  return summary.budget === undefined ? EXIT.OK : EXIT.BUDGET;
}

/** The exit code of a run whose metrics could not be written: nobody would learn of it otherwise. */
export const withoutMetrics = (code: ExitCode): ExitCode =>
  code === EXIT.OK || code === EXIT.BUDGET ? EXIT.FAILED : code;
