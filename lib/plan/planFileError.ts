/** A plan file that cannot be carried out as it is: the message says what is wrong, where, and what to do. */
export class PlanFileError extends Error {
  /** Which error it is. */
  override readonly name = 'PlanFileError';
  /** The same for programs. */
  readonly code = 'EXT4_DEFRAG_BAD_PLAN';
}
