import { defineConfig } from 'vitest/config';

// Two projects: `unit` is pure and runs anywhere; `system` needs root, loop devices and the kernel's ext4,
// and runs both directly on this machine and inside the VM. System tests share loop devices, the page cache
// and the kernel log, so their files run one after another.
export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'] } },
      {
        test: {
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          fileParallelism: false,
          pool: 'forks',
          testTimeout: 180_000,
          hookTimeout: 60_000,
        },
      },
      // For minutes, two at a time: `npm run torture`.
      { test: { name: 'torture', include: ['test/torture/**/*.test.ts'], pool: 'forks', maxWorkers: 2 } },
    ],
  },
});
