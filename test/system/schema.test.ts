import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { MiB } from '../support/lab.ts';
import { useLab } from '../support/use.ts';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const SCHEMA_FILE = fileURLToPath(new URL('../../share/schema/events-1.schema.json', import.meta.url));

/** Fields may be added to a schema, but here none may be printed that it does not know. */
function strict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(strict);
  if (typeof schema !== 'object' || schema === null) return schema;
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, strict(value)]));
  return 'properties' in inner && inner.type === 'object' ? { ...inner, additionalProperties: false } : inner;
}

const validate = new Ajv({ strict: false }).compile(
  strict(JSON.parse(readFileSync(SCHEMA_FILE, 'utf8'))) as object,
);

test('every line of --json is as the schema says', async () => {
  const l = await useLab();
  const folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-schema-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const seen = new Set<string>();
  // Others on this machine are no reason to wait.
  const eager = ['--pressure', '100', '--priority', 'normal'];
  /** Runs a command, and holds each line of it against the schema. */
  const run = async (...args: string[]) => {
    const { stdout, exitCode } = await execa(process.execPath, [CLI, '--json', ...args], {
      reject: false,
      env: { STATE_DIRECTORY: folder },
    });
    const lines = stdout.split('\n').map((line) => JSON.parse(line) as { type: string; command?: string });
    for (const line of lines) {
      if (!validate(line))
        throw new Error(`${JSON.stringify(line)}: ${JSON.stringify(validate.errors, null, 1)}`);
      seen.add(line.command === undefined ? line.type : `${line.type} ${line.command}`);
    }
    expect(lines.at(-1)?.type).toBe('summary');
    return exitCode;
  };
  for (const name of ['one', 'two', 'three']) {
    await writeFile(l.path(name), randomBytes(2 * MiB));
    await l.fragment(name, 4);
  }
  await writeFile(Buffer.from(`${l.mountPoint}/caf\xe9`, 'latin1'), 'small');
  await mkdir(l.path('small'));
  for (let i = 0; i < 8; i++) await writeFile(l.path(`small/${i}`), randomBytes(20_000));
  await l.remount();
  const file = (name: string) => join(folder, name);
  expect(await run('check', '-v', l.mountPoint)).toBe(0);
  expect(await run('check', '-v', l.path('small'), l.path('none'))).toBe(1);
  expect(await run('check', '/proc')).toBe(3);
  expect(await run('explain', l.path('one'), l.path('small/1'))).toBe(0);
  expect(await run('plan', '-v', '--cluster', l.mountPoint)).toBe(0);
  expect(await run('plan', '-o', file('plan'), l.path('one'))).toBe(0);
  expect(await run('apply', ...eager, '--keep-undo', file('undo'), file('plan'))).toBe(0);
  expect(await run('apply', ...eager, file('undo'))).toBe(0);
  expect(await run('-v', ...eager, '--max-bytes', '1', l.mountPoint)).toBe(4);
  expect(await run('-v', ...eager, '--measure', '--cluster', l.mountPoint)).toBe(0);
  expect(await run('space', l.mountPoint)).toBe(0);
  expect(await run('space', '--consolidate', ...eager, l.mountPoint)).toBe(0);
  // What was held against it, so that none of these can go missing unseen.
  const wanted = [
    'target',
    'scanning',
    'file',
    'skip',
    'freeSpace',
    'failed',
    'unsupported',
    'explain',
    'plan',
  ];
  wanted.push('defragmented', 'restored', 'progress', 'space', 'largestFile', 'consolidated');
  for (const command of ['check', 'explain', 'plan', 'defrag', 'apply', 'space', 'consolidate'])
    wanted.push(`summary ${command}`);
  expect(wanted.filter((type) => !seen.has(type))).toEqual([]);
});
