// The mover without its barrier and what it does for open files, to show what that is for: `unsafe.ts FOLDER` in the guest.
import { moveWith } from '../support/moveWith.ts';

console.log(`${await moveWith(process.argv[2], 'careless')} files moved without a barrier`);
