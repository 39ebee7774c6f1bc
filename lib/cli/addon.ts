import { native } from '../kernel/native.ts';
import { printableText } from '../report/names.ts';

/** Loads the native addon, or says on stderr why that does not go. */
export function loadAddon(): boolean {
  try {
    native();
    return true;
  } catch (error) {
    const [reason] = (error instanceof Error ? error.message : String(error)).split('\n');
    process.stderr.write(
      `ext4-defrag: the native addon cannot be loaded (${printableText(reason)}); ` +
        `"npm rebuild ext4-defrag" builds it for this Node and this system\n`,
    );
    return false;
  }
}
