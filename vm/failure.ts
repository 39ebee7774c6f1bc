/** Why a run in the VM has no result of its own. `setup` is about this machine, all others about the guest. */
export type FailureKind = 'setup' | 'log' | 'timeout' | 'lost' | 'guest' | 'aborted';

/** A run that ended without a trustworthy exit status of the command. */
export class VmFailure extends Error {
  override readonly name = 'VmFailure';
  readonly kind: FailureKind;
  /** What the guest's kernel had printed by then; empty before the guest started. */
  kernelLog = '';

  constructor(kind: FailureKind, message: string) {
    super(message);
    this.kind = kind;
  }
}
