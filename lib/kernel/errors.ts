import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

/** Errnos that libuv has no name or another name for: asm-generic/errno.h. */
const UNKNOWN_TO_LIBUV: ReadonlyMap<number, readonly [name: string, message: string]> = new Map([
  [53, ['EBADR', 'invalid request descriptor']],
  [61, ['ENODATA', 'no data available']],
  [95, ['EOPNOTSUPP', 'operation not supported']],
  [116, ['ESTALE', 'stale file handle']],
  [117, ['EUCLEAN', 'structure needs cleaning']],
  [122, ['EDQUOT', 'disk quota exceeded']],
  [126, ['ENOKEY', 'required key not available']],
]);

/** An error of a system call in Node's shape: `errno` is negative, `code` its name. */
export class SystemError extends Error {
  /** Which error it is. */
  override readonly name = 'SystemError';
  /** The errno's name, such as `ENOSPC`. */
  readonly code: string;
  /** The errno, negative. */
  readonly errno: number;
  /** The call that failed, such as `ioctl(FS_IOC_FIEMAP)`. */
  readonly syscall: string;
  /** What it was called with, where that is a path. */
  readonly path: string | undefined;

  /** @param errno of either sign */
  constructor(errno: number, syscall: string, path?: string) {
    const [code, message] = describe(Math.abs(errno));
    super(`${code}: ${message}, ${syscall}${path === undefined ? '' : ` '${path}'`}`);
    this.code = code;
    this.errno = -Math.abs(errno);
    this.syscall = syscall;
    this.path = path;
  }
}

function describe(errno: number): readonly [name: string, message: string] {
  const known = UNKNOWN_TO_LIBUV.get(errno) ?? getSystemErrorMap().get(-errno);
  if (known !== undefined) return known;
  const name = Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `E${errno}`;
  return [name, `system error ${errno}`];
}

/** The name of an errno, as in `SystemError.code`. */
export const errnoName = (errno: number): string => describe(Math.abs(errno))[0];

/** `code` of anything thrown by Node or by this library, or undefined. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Whether something thrown is a failed system call, ours or Node's, and not a mistake in the program. */
export function isSystemFailure(error: unknown): error is Error & { code: string; errno: number } {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number';
}

/** Answers `value`, or throws when it is a -errno. */
export function check<T>(value: T | number, syscall: string, path?: string): T {
  if (typeof value === 'number' && value < 0) throw new SystemError(value, syscall, path);
  return value as T;
}
