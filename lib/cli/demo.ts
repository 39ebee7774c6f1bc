import { printableText } from '../report/names.ts';
import { Console } from './console.ts';
import { LoopImage } from './demo/image.ts';
import { Show } from './demo/show.ts';
import { ToolError } from './demo/tools.ts';
import { EXIT, type ExitCode } from './exitCode.ts';
import { Output } from './output.ts';
import { finish } from './run.ts';
import { StopSignals } from './signals.ts';

/**
 * Shows the whole job on a loopback ext4 of its own, and proves what it shows.
 *
 * @returns 0 when every proof holds, 1 when one does not, 3 without root or a program it needs, 130 after a signal
 */
export async function demo(): Promise<ExitCode> {
  const console = new Console(new Output(process.stdout), new Output(process.stderr));
  if (process.getuid?.() !== 0) {
    await console.warn('demo: run as root, or "npm run demo" runs it in a VM');
    return finish(EXIT.UNSUPPORTED, console);
  }
  using stop = new StopSignals(() => void console.warn('stopping'));
  const image = await LoopImage.plan();
  try {
    return await finish(await perform(image, console, stop.signal), console);
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    // The signal may have reached the program as well.
    if (stop.signal.aborted) return await finish(EXIT.INTERRUPTED, console);
    await console.warn(`demo: ${printableText(error.message)}`);
    return await finish(error.missing ? EXIT.UNSUPPORTED : EXIT.FAILED, console);
  } finally {
    await image.remove();
  }
}

async function perform(image: LoopImage, console: Console, signal: AbortSignal): Promise<ExitCode> {
  const show = new Show(console, image, signal);
  await show.say(`Making an ext4 of 512 MiB in ${image.path} and mounting it`);
  await image.make();
  const shown = await show.play();
  await image.unmount();
  if (signal.aborted) {
    await show.say('\nStopped, and everything is taken away again.');
    return EXIT.INTERRUPTED;
  }
  const holds = (await show.proveClean()) && shown;
  await show.say(holds ? '\nAll of it holds.' : '\nNOT all of it holds: see above.');
  return holds ? EXIT.OK : EXIT.FAILED;
}
