import { defineConfig } from 'vitest/config';

// `unit` is pure and runs anywhere; `browser` shows the page in Chromium; `system` needs root, loop devices and the
// kernel's ext4, and runs both directly on this machine and inside the VM. System tests share loop devices, the page
// cache and the kernel log, so their files run one after another. `packages` needs them too, and tools of other systems.
export default defineConfig({
  test: {
    projects: [
      // A busy machine is no failure.
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000 } },
      {
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
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
      {
        test: {
          name: 'packages',
          include: ['test/packages/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
