import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { completionFor } from './completion/completion.ts';
import { manualPage } from './manual/page.ts';
import type { Shell } from './options.ts';

/** Where each shell looks for completion, below /usr/share. */
const COMPLETIONS: Readonly<Record<Shell, string>> = {
  bash: 'bash-completion/completions/ext4-defrag',
  zsh: 'zsh/site-functions/_ext4-defrag',
  fish: 'fish/vendor_completions.d/ext4-defrag.fish',
};

// Run by the build: writes what belongs below /usr/share into the folder that is named.

const [folder] = process.argv.slice(2);
// The date of what is built (reproducible-builds.org), or today.
const seconds = process.env['SOURCE_DATE_EPOCH'];
const date = seconds === undefined ? new Date() : new Date(Number(seconds) * 1000);

const files: Readonly<Record<string, string>> = {
  'man/man8/ext4-defrag.8': manualPage(date),
  ...Object.fromEntries(
    (Object.keys(COMPLETIONS) as Shell[]).map((shell) => [COMPLETIONS[shell], completionFor(shell)]),
  ),
};
for (const [name, text] of Object.entries(files)) {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
