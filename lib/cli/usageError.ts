/** A command line that cannot be meant: the message says what is wrong and where. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
