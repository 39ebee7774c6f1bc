/**
 * Why bytes are not the structure that they should be. A value and not an exception: on a live or damaged device it
 * is an answer like any other.
 */
export class Invalid {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}
