// Compiles the test programs (test/support/*.c) into build/test, from where the VM takes them too.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const out = fileURLToPath(new URL('../../build/test/', import.meta.url));
mkdirSync(out, { recursive: true });
for (const name of ['writer', 'crash', 'records']) {
  const source = fileURLToPath(new URL(`${name}.c`, import.meta.url));
  const program = `${out}${name}`;
  if (existsSync(program) && statSync(program).mtimeMs >= statSync(source).mtimeMs) continue;
  const flags = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror'];
  execFileSync(process.env.CC ?? 'cc', [...flags, '-o', program, source], { stdio: 'inherit' });
}
