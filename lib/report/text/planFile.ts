import { printable, shellWord } from '../names.ts';

/**
 * Where a plan file is, and how it is carried out.
 *
 * @param what it is for, such as "To carry it out"
 */
export function applyLine(what: string, path: string): string {
  const word = shellWord({ path });
  // A name that is no word is the reader's to write down.
  return word === undefined
    ? `${what}: apply the file ${printable({ path })}`
    : `${what}: ext4-defrag apply ${word}`;
}
