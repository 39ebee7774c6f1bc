import { onTestFinished } from 'vitest';
import { Lab, type LabOptions } from './lab.ts';

/** A {@link Lab} for one test, which fails when the lab does not close clean. */
export async function useLab(options: LabOptions = {}): Promise<Lab> {
  const lab = await Lab.create(options);
  onTestFinished(() => lab.close());
  return lab;
}
