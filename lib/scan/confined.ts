import { RESOLVE } from '../kernel/handle.ts';

/** Beneath the target, on its filesystem, through no symbolic link: whatever others rename meanwhile. */
export const CONFINED = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV;
