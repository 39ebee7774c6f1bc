// A frozen filesystem (fsfreeze): who writes to it waits in the kernel, where no signal reaches. The command must not
// keep the filesystem from being thawed, and goes on, or ends, when it is.
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { EXIT } from '../../lib/cli/exitCode.ts';
import { changed, fragmentedFiles, runCommand, runUntilMoving, start } from '../support/faults.ts';
import { MiB, scaled, type Lab } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

/** Who thaws it must not wait for anybody: milliseconds. */
const PROMPT = 20_000;

async function frozenLab(): Promise<Lab> {
  const l = await useLab({ size: 256 * MiB });
  // Before the lab is closed.
  onTestFinished(async () => void (await execa('fsfreeze', ['-u', l.mountPoint], { reject: false })));
  return l;
}

const freeze = (l: Lab) => execa('fsfreeze', ['-f', l.mountPoint]);
const thaw = (l: Lab) => execa('fsfreeze', ['-u', l.mountPoint], { timeout: PROMPT });

test('frozen before the start: check and plan work, and defrag waits until it is thawed', async () => {
  const l = await frozenLab();
  const before = await fragmentedFiles(l, 2);
  await l.remount();
  await freeze(l);
  for (const command of ['check', 'plan']) {
    expect(await runCommand([command, l.mountPoint])).toMatchObject({ exitCode: EXIT.OK, stderr: '' });
  }
  const child = start([l.mountPoint, '--no-state']);
  let ended = false;
  void child.then(() => (ended = true));
  await sleep(2000);
  expect(ended).toBe(false);
  await thaw(l);
  expect(await child).toMatchObject({ exitCode: EXIT.OK, stderr: '' });
  await l.remount();
  expect(await changed(l, before)).toEqual([]);
});

test('frozen in the middle: a stop is acknowledged, says what it waits for, and takes effect once it is thawed', async () => {
  const l = await frozenLab();
  const before = await fragmentedFiles(l, 6, scaled(16 * MiB), 64);
  await l.remount();
  let ended = false;
  const result = await runUntilMoving(
    [l.mountPoint, '--no-state', '--max-rate', String(scaled(16 * MiB)), '--pressure', '100'],
    async (child) => {
      void child.then(() => (ended = true));
      await freeze(l);
      await sleep(1500);
      child.kill('SIGINT');
      await sleep(7000);
      expect(ended).toBe(false);
      await thaw(l);
    },
  );
  expect(result.acted).toBe(true);
  expect(result.stderr).toMatch(/stopping: finishing the chunk in hand\n.*still waiting: .*frozen/);
  expect(result).toMatchObject({ exitCode: EXIT.INTERRUPTED, failed: new Map() });
  await l.remount();
  expect(await changed(l, before)).toEqual([]);
});
