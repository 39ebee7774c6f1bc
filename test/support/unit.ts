import { readFileSync } from 'node:fs';

/** The settings of a unit file in their order, sections left out: names are used in one of them only. */
export class UnitFile {
  readonly #settings: (readonly [name: string, value: string])[];

  /** @param instance the path that stands for %f */
  constructor(path: string, instance: string) {
    this.#settings = readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => /^\w+=/.test(line))
      .map((line) => {
        const [name, ...value] = line.split('=');
        return [name, value.join('=').replaceAll('%f', instance)] as const;
      });
  }

  all(name: string): string[] {
    return this.#settings.filter(([one]) => one === name).map(([, value]) => value);
  }

  /** The words of a setting that is a list. */
  words(name: string): string[] {
    return this.all(name).flatMap((value) => value.split(' '));
  }
}
