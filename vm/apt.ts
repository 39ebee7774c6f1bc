// Debian packages without root and without touching this machine's own apt: a private state folder with its
// own sources, lists and status file. Signatures are checked by apt as always.
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached, cacheFolder, digest, replaceEntry, unfinishedPath } from './cache.ts';
import { VmFailure } from './failure.ts';
import { runProgram } from './host.ts';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
const askAgainAfterDays = 7;

function sources(suites: readonly string[]): string {
  const lines = suites.map((suite) => {
    const archive = suite.endsWith('-security') ? 'debian-security' : 'debian';
    return `deb [arch=amd64 signed-by=${keyring}] http://deb.debian.org/${archive} ${suite} main\n`;
  });
  return lines.join('');
}

function configuration(state: string): string {
  return [
    `Dir::Etc::sourcelist "${state}/sources.list";`,
    'Dir::Etc::sourceparts "/dev/null";',
    'Dir::Etc::preferences "/dev/null";',
    'Dir::Etc::preferencesparts "/dev/null";',
    `Dir::State "${state}";`,
    `Dir::State::status "${state}/status";`,
    `Dir::Cache "${state}/cache";`,
    'APT::Architecture "amd64";',
    '#clear APT::Architectures;',
    'APT::Architectures { "amd64"; };',
    'Acquire::Languages "none";',
    // The hooks of this machine's own apt configuration are about its own packages.
    '#clear APT::Update::Post-Invoke;',
    '#clear APT::Update::Post-Invoke-Success;',
    // As root, apt would become a user who may not read the private folder.
    ...(process.getuid?.() === 0 ? ['APT::Sandbox::User "root";'] : []),
    '',
  ].join('\n');
}

/** Runs `work` with the arguments that make apt use a private state holding the suites' package lists. */
async function withPackageLists<T>(
  suites: readonly string[],
  work: (aptArguments: string[]) => Promise<T>,
): Promise<T> {
  if (!existsSync(keyring)) {
    throw new VmFailure('setup', `${keyring} is missing; run: apt-get install debian-archive-keyring`);
  }
  const state = unfinishedPath();
  try {
    await mkdir(join(state, 'lists', 'partial'), { recursive: true });
    await mkdir(join(state, 'cache', 'archives', 'partial'), { recursive: true });
    await writeFile(join(state, 'sources.list'), sources(suites));
    await writeFile(join(state, 'status'), '');
    await writeFile(join(state, 'apt.conf'), configuration(state));
    const aptArguments = ['-q', '-c', join(state, 'apt.conf')];
    const doing = `reading the package lists of Debian ${suites.join(', ')}`;
    await runProgram(doing, 'apt-get', [...aptArguments, '--error-on=any', 'update']);
    return await work(aptArguments);
  } finally {
    await rm(state, { recursive: true, force: true });
  }
}

function field(record: string, name: string): string {
  return new RegExp(`^${name}: (.*)$`, 'm').exec(record)?.[1] ?? '';
}

/** The names of a package record's dependencies that match. */
export function dependencies(record: string, wanted: RegExp): string[] {
  const names = field(record, 'Depends')
    .split(/[,|]/)
    .map((name) => name.trim().split(/[ (:]/)[0] ?? '');
  return [...new Set(names.filter((name) => wanted.test(name)))];
}

/** `name=version` of a package and of all it depends on, as far as the names match. */
async function closure(aptArguments: string[], name: string, follow: RegExp): Promise<string[]> {
  const versions = new Map<string, string>();
  const waiting = [name];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const doing = `looking up the Debian package ${next}`;
    const record = await runProgram(doing, 'apt-cache', [...aptArguments, '--no-all-versions', 'show', next]);
    versions.set(next, field(record, 'Version'));
    waiting.push(...dependencies(record, follow).filter((dependency) => !versions.has(dependency)));
  }
  return [...versions].map(([known, version]) => `${known}=${version}`).sort();
}

async function download(aptArguments: string[], packages: string[], folder: string): Promise<void> {
  const downloads = `${folder}-download`;
  try {
    await mkdir(downloads, { recursive: true });
    const doing = `downloading ${packages.join(', ')}`;
    await runProgram(doing, 'apt-get', [...aptArguments, 'download', ...packages], { cwd: downloads });
    for (const file of await readdir(downloads)) await unpackDeb(join(downloads, file), folder);
  } finally {
    await rm(downloads, { recursive: true, force: true });
  }
}

export async function unpackDeb(deb: string, folder: string): Promise<void> {
  await runProgram(`unpacking ${deb}`, 'dpkg-deb', ['-x', deb, folder]);
}

/**
 * The cached folder with a package, and those of its dependencies whose names match, unpacked but not
 * installed. The archive is asked for newer versions once a week; if it cannot be reached, the last ones do.
 */
export async function unpackedPackages(
  suites: readonly string[],
  name: string,
  follow: RegExp,
  say: (text: string) => void,
): Promise<string> {
  const question = `newest-${name}-${suites.join('+')}`;
  const answer = join(cacheFolder(), question);
  const known = await readFile(answer, 'utf8').catch(() => undefined);
  if (known !== undefined && existsSync(join(cacheFolder(), known))) {
    const age = Date.now() - (await stat(answer)).mtimeMs;
    if (age < askAgainAfterDays * 86_400_000) return await cached(known, () => Promise.resolve());
  }
  try {
    say(`asking the Debian archive for ${name} of ${suites[0]}`);
    return await withPackageLists(suites, async (aptArguments) => {
      const packages = await closure(aptArguments, name, follow);
      const entry = `deb-${digest(...packages)}`;
      const folder = await cached(entry, (path) => download(aptArguments, packages, path));
      await replaceEntry(question, entry);
      return folder;
    });
  } catch (error) {
    if (known === undefined || !existsSync(join(cacheFolder(), known)) || !(error instanceof VmFailure))
      throw error;
    say(`${error.message}; using the package from before`);
    return await cached(known, () => Promise.resolve());
  }
}
