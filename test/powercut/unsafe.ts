// The mover without its barrier, to show what that is for: `unsafe.ts FOLDER` in the guest.
import { moveWith, NO_BARRIER } from '../support/moveWith.ts';

console.log(`${await moveWith(process.argv[2], NO_BARRIER)} files moved without a barrier`);
