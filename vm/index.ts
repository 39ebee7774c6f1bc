// For scripts and tests that run something in a guest.
export { VmFailure, type FailureKind } from './failure.ts';
export { defaultKernel, kernelNames } from './kernels.ts';
export { runInVm, type LoggedDisk, type VmOptions, type VmResult } from './run.ts';
