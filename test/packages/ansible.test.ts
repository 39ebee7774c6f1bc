import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const UNITS = '/etc/systemd/system';

let folder: string;
let deb: string;
/** What holds the view of this machine in which all is done: what is changed in it is gone with it. */
let holder: number;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ext4-defrag-ansible-'));
  await execa('npm', ['run', '--silent', 'prebuilds'], { cwd: ROOT });
  deb = (await execa(process.execPath, [join(ROOT, 'share/packages/deb.mjs'), '--out', folder])).stdout;
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sleep', '3600'], {
    stdio: 'ignore',
  });
  holder = child.pid!;
  // It is another namespace as soon as unshare(1) has become sleep(1).
  for (;;) {
    const { stdout } = await execa('cat', [`/proc/${holder}/comm`]);
    if (stdout === 'sleep') break;
  }
  await execa('nsenter', ['--mount', '--target', String(holder), 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']);
  for (const top of ['etc', 'usr', 'var']) {
    const [upper, work] = [`/mnt/${top}/upper`, `/mnt/${top}/work`];
    await inside('mkdir', '-p', upper, work);
    const options = `lowerdir=/${top},upperdir=${upper},workdir=${work}`;
    await inside('mount', '-t', 'overlay', '-o', options, 'overlay', `/${top}`);
  }
});
afterAll(async () => {
  process.kill(holder, 'SIGKILL');
  await rm(folder, { recursive: true });
});

const inside = (...command: string[]) =>
  execa('nsenter', ['--mount', '--target', String(holder), ...command], {
    cwd: '/',
    env: {
      ANSIBLE_ROLES_PATH: join(ROOT, 'share/ansible/roles'),
      ANSIBLE_NOCOLOR: '1',
      LANG: 'C.UTF-8',
      LC_ALL: 'C.UTF-8',
    },
  });

/** Plays the role for a host. @returns how many tasks changed something */
async function play(host: string, variables: object): Promise<number> {
  const [playbook, extra, hosts] = ['play.yml', 'vars.json', 'hosts'].map((name) => join(folder, name));
  await writeFile(playbook, '- hosts: all\n  roles: [ext4_defrag]\n');
  await writeFile(extra, JSON.stringify(variables));
  const local = 'ansible_connection=local ansible_python_interpreter=/usr/bin/python3';
  await writeFile(hosts, ['alpha', 'beta', 'gamma'].map((name) => `${name} ${local}\n`).join(''));
  const { stdout } = await inside(
    'ansible-playbook',
    '-i',
    hosts,
    '--limit',
    host,
    '-e',
    `@${extra}`,
    playbook,
  );
  const [, changed, failed] = /changed=(\d+) .*failed=(\d+)/.exec(stdout)!;
  expect(failed).toBe('0');
  return Number(changed);
}

const read = async (path: string) => (await inside('cat', path)).stdout;
const calendarOf = async (unit: string) =>
  /^OnCalendar=(.+)$/m.exec(await read(`${UNITS}/${unit}.timer.d/ansible.conf`))![1];

test('the example playbook is one', async () => {
  await inside(
    'ansible-playbook',
    '--syntax-check',
    '-i',
    'localhost,',
    join(ROOT, 'share/ansible/site.yml'),
  );
});

test('from npm as well, and the second time changes nothing', async () => {
  const pack = ['pack', '--silent', '--ignore-scripts', '--pack-destination', folder];
  const { stdout: archive } = await execa('npm', pack, { cwd: ROOT });
  const variables = { ext4_defrag_npm: join(folder, archive), ext4_defrag_mount_points: ['/srv'] };
  expect(await play('alpha', variables)).toBeGreaterThan(3);
  expect(await play('alpha', variables)).toBe(0);
  expect((await inside('/usr/bin/ext4-defrag', '--version')).stdout).toMatch(/^ext4-defrag \d/);
  expect(await read(`${UNITS}/ext4-defrag@.service`)).toContain('/usr/bin/ext4-defrag');
  // Room for the package of the next test.
  await inside('npm', 'uninstall', '--global', 'ext4-defrag');
});

test('the role installs, schedules, and the second time changes nothing; each host has its own time', async () => {
  await mkdir(join(folder, 'metrics'));
  const variables = {
    ext4_defrag_deb: deb,
    ext4_defrag_mount_points: ['/', '/srv/my-data'],
    ext4_defrag_metrics_folder: join(folder, 'metrics'),
    ext4_defrag_options: ['--max-rate', '50M'],
  };
  expect(await play('alpha', variables)).toBeGreaterThan(5);
  expect(await play('alpha', variables)).toBe(0);

  expect((await inside('/usr/bin/ext4-defrag', '--version')).stdout).toMatch(/^ext4-defrag \d/);
  const [root, data] = ['ext4-defrag@-', 'ext4-defrag@srv-my\\x2ddata'];
  for (const unit of [root, data]) {
    const target = await inside('readlink', '-f', `${UNITS}/timers.target.wants/${unit}.timer`);
    expect(target.stdout).toMatch(/\/ext4-defrag@\.timer$/);
    expect(await calendarOf(unit)).toMatch(/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun) 0[2-5]:[0-5]\d$/);
    const verdict = await inside('systemd-analyze', 'verify', '--man=no', `${unit}.timer`, `${unit}.service`);
    expect(verdict.stderr).toBe('');
  }
  const service = await read(`${UNITS}/${data}.service.d/ansible.conf`);
  expect(service).toContain(
    `Environment="EXT4_DEFRAG_OPTIONS=--time-limit 1h --max-rate 50M --metrics ${folder}/metrics/ext4-defrag@srv-my_x2ddata.prom"`,
  );

  // Other hosts, at other times; and a mount point less.
  const times = [await calendarOf(root)];
  for (const host of ['beta', 'gamma']) {
    await play(host, { ...variables, ext4_defrag_mount_points: ['/'] });
    times.push(await calendarOf(root));
  }
  expect(new Set(times).size).toBe(3);
  const left = await inside('find', UNITS, '-name', '*my*data*');
  expect(left.stdout).toBe('');
  // All of it was in the view only.
  expect(existsSync('/lib/systemd/system/ext4-defrag@.timer')).toBe(false);
});
