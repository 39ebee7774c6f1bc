/** The command's exit codes; 4 is kept for a run that ends at its budget. */
export const EXIT = {
  OK: 0,
  FAILED: 1,
  USAGE: 2,
  UNSUPPORTED: 3,
  INTERRUPTED: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The exit code that a finished run has earned. That it was stopped says least about what is wrong, and comes first. */
export function exitCodeOf(summary: {
  readonly interrupted: boolean;
  readonly failed: number;
  readonly unsupported: number;
}): ExitCode {
  if (summary.interrupted) return EXIT.INTERRUPTED;
  if (summary.failed > 0) return EXIT.FAILED;
  return summary.unsupported > 0 ? EXIT.UNSUPPORTED : EXIT.OK;
}
