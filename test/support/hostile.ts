// The program hostile.c at work beside a test.
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';

const PROGRAM = fileURLToPath(new URL('../../build/test/hostile', import.meta.url));

/** Runs it until `during` has ended, and answers the lines that it printed then. */
async function beside(
  mode: string,
  paths: readonly string[],
  during: () => Promise<void>,
): Promise<string[]> {
  const program = execa(PROGRAM, [mode, ...paths], { reject: false });
  try {
    const said = await Promise.race([
      new Promise((resolve) => program.stdout.once('data', resolve)),
      program,
    ]);
    if (!Buffer.isBuffer(said) && typeof said !== 'string') throw new Error(`hostile ${mode} did not start`);
    await during();
  } finally {
    program.kill('SIGTERM');
  }
  const { stdout, exitCode } = await program;
  if (exitCode !== 0) throw new Error(`hostile ${mode}: ${stdout}`);
  return stdout.split('\n').slice(1);
}

/** Exchanges the names of each pair while something is done, and answers how often. */
export async function whileExchanging(
  pairs: readonly (readonly [string, string])[],
  during: () => Promise<void>,
): Promise<number> {
  return Number((await beside('exchange', pairs.flat(), during))[0]);
}

/** What happens to paths while something is done: "open PATH", "write PATH", "attributes PATH". */
export const witnessed = (paths: readonly string[], during: () => Promise<void>): Promise<string[]> =>
  beside('watch', paths, during);
