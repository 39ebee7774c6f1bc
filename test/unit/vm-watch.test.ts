import { describe, expect, test } from 'vitest';
import { LogWatch } from '../../vm/watch.ts';

const judge = (line: string) => new LogWatch([]).judge(line);

describe('lines that end a run', () => {
  test.each([
    ['[    3.9] Kernel panic - not syncing: sysrq triggered crash', 'kernel panic'],
    ['[  120.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [node:311]', 'lockup'],
    ['[  120.0] watchdog: Watchdog detected hard LOCKUP on cpu 0', 'lockup'],
    ['[  120.0] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 30s!', 'lockup'],
    ['[   70.0] rcu: INFO: rcu_preempt self-detected stall on CPU', 'lockup (RCU stall)'],
    ['[   70.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:', 'lockup (RCU stall)'],
    ['[   70.0] rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks', 'lockup (RCU stall)'],
    ['[  242.0] INFO: task umount:812 blocked for more than 120 seconds.', 'hung task'],
    ['[    9.1] BUG: kernel NULL pointer dereference, address: 0000000000000008', 'kernel bug'],
    ['[    9.1] kernel BUG at fs/ext4/inode.c:2721!', 'kernel bug'],
    ['[    9.1] BUG: KASAN: use-after-free in ext4_ext_map_blocks+0x1/0x2', 'kernel bug'],
    ['[    2.1] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI', 'kernel oops'],
    ['[    9.1] Oops: general protection fault, probably for non-canonical address', 'kernel oops'],
    ['[    9.1] traps: node[211] general protection fault ip:1 sp:2 error:0', 'general protection fault'],
    ['[    9.1] WARNING: CPU: 1 PID: 231 at fs/ext4/move_extent.c:40 f+0x1/0x2 [ext4]', 'kernel warning'],
    ['[    9.1] WARNING: fs/ext4/move_extent.c:40 at f+0x1/0x2, CPU#1: node/231', 'kernel warning'],
    ['[    9.1] WARNING: possible circular locking dependency detected', 'kernel warning'],
    ['[    9.1] UBSAN: array-index-out-of-bounds in fs/ext4/xattr.c:1', 'undefined behaviour in the kernel'],
    ['[    9.1] EXT4-fs error (device loop0): ext4_lookup:1787: inode #2: comm ls', 'ext4 error'],
    ['[    9.1] EXT4-fs (loop0): Remounting filesystem read-only', 'ext4 error'],
    ['[    9.1] JBD2: Detected IO errors -5 while flushing file data on dm-0-8', 'journal error'],
    ['[    9.1] Buffer I/O error on dev dm-0, logical block 1, lost async page write', 'I/O error'],
    ['[    9.1] I/O error, dev loop0, sector 8 op 0x1:(WRITE) flags 0x800', 'I/O error'],
    ['[    2.0] ext4-defrag-vm: error: cannot mount the root disk', 'the guest could not start'],
  ])('%s', (line, meaning) => {
    expect(judge(line)).toBe(meaning);
  });

  test('a killed process says what to do', () => {
    expect(judge('[ 9.1] Out of memory: Killed process 200 (node) total-vm:1kB')).toContain('--memory');
  });
});

describe('lines that do not', () => {
  test.each([
    '[    0.0] Command line: console=ttyS0 panic=-1 watchdog_thresh=30',
    '[    3.2] RAS: Correctable Errors collector initialized.',
    '[    3.2] [Firmware Bug]: TSC_DEADLINE disabled due to Errata',
    '[    4.4] EXT4-fs (vda): mounted filesystem r/w with ordered data mode. Quota mode: none.',
    '[    4.4] EXT4-fs (loop0): shut down requested (2)',
    '[    4.4] EXT4-fs (loop0): recovery complete',
    '[    0.1] rcu: \tRCU CPU stall warnings timeout set to 60 (rcu_cpu_stall_timeout).',
    '[    0.6] NMI watchdog: Perf NMI watchdog permanently disabled',
  ])('%s', (line) => {
    expect(judge(line)).toBeUndefined();
  });
});

describe('expected lines', () => {
  const error = 'EXT4-fs error (device loop0): made by a test';

  test('allowed for the whole run', () => {
    expect(new LogWatch([/device loop0/]).judge(error)).toBeUndefined();
    expect(new LogWatch([/device loop1/]).judge(error)).toBe('ext4 error');
  });

  test('announced in the log, until that is taken back', () => {
    const watch = new LogWatch([]);
    expect(watch.judge('[ 1.0] ext4-defrag-vm: expect EXT4-fs error.*made by')).toBeUndefined();
    expect(watch.judge(error)).toBeUndefined();
    expect(watch.judge('Buffer I/O error on dev loop0')).toBe('I/O error');
    expect(watch.judge('[ 2.0] ext4-defrag-vm: expect')).toBeUndefined();
    expect(watch.judge(error)).toBe('ext4 error');
  });

  test('an announcement that cannot be understood is no permission', () => {
    expect(new LogWatch([]).judge('ext4-defrag-vm: expect (')).toContain('regular expression');
  });
});
