import { execa } from 'execa';

/** The system programs that the demo runs, and the packages that have them. */
const PACKAGES = {
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  filefrag: 'e2fsprogs',
  mount: 'mount',
  umount: 'mount',
} as const;

/** A system program that is missing or failed: the message says which, and what to do. */
export class ToolError extends Error {
  override readonly name = 'ToolError';
  readonly missing: boolean;

  constructor(message: string, missing: boolean) {
    super(message);
    this.missing = missing;
  }
}

export interface ToolResult {
  readonly exitCode: number;
  readonly stdout: string;
}

/**
 * Runs a system program, out of reach of the terminal's Ctrl-C: half a mkfs or umount helps nobody.
 *
 * @throws ToolError when it cannot be run
 */
export async function tryTool(program: keyof typeof PACKAGES, args: readonly string[]): Promise<ToolResult> {
  // "su" without "-" leaves root without these two.
  const env = { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
  const { exitCode, stdout, stderr, code, signal } = await execa(program, args, {
    detached: true,
    env,
    reject: false,
    stdin: 'ignore',
  });
  if (code === 'ENOENT') {
    throw new ToolError(`${program} is missing: install the package ${PACKAGES[program]}`, true);
  }
  if (exitCode === undefined)
    throw new ToolError(`${program} could not be run (${signal ?? code}): try it by hand`, false);
  return { exitCode, stdout: exitCode === 0 ? stdout : stderr || stdout };
}

/**
 * As {@link tryTool}, and answers what it printed.
 *
 * @throws ToolError also when it fails
 */
export async function tool(program: keyof typeof PACKAGES, args: readonly string[]): Promise<string> {
  const { exitCode, stdout } = await tryTool(program, args);
  if (exitCode !== 0)
    throw new ToolError(`${program} failed (exit ${exitCode}); see what it says: ${stdout.trim()}`, false);
  return stdout;
}
