import { FADV, fadvise, readThrough, residentPages } from '../kernel/cache.ts';
import { isSystemFailure } from '../kernel/errors.ts';
import { bytes, type Bytes } from '../layout/units.ts';

/** Enough to show what was gained, and little beside what is moved. */
const SAMPLE = { files: 16, bytes: 256 * 1024 * 1024 };

/** Measures what a sample of the files costs to read from the device, before and after. */
export class Measurement {
  #files = 0;
  #bytes = 0;

  /**
   * Takes a file into the sample if there is room and nothing of it is cached: what is cached for somebody is not
   * dropped for a measurement.
   *
   * @returns seconds of reading it, or undefined when it is not in the sample
   */
  async before(fd: number, size: Bytes): Promise<number | undefined> {
    if (this.#files >= SAMPLE.files || this.#bytes + size > SAMPLE.bytes) return undefined;
    this.#files++;
    this.#bytes += size;
    const seconds = await this.after(fd, size);
    if (seconds !== undefined) return seconds;
    this.#files--;
    this.#bytes -= size;
    return undefined;
  }

  /** Seconds of reading a file that is not cached, and is not afterwards either; undefined when it is cached. */
  async after(fd: number, size: Bytes): Promise<number | undefined> {
    try {
      if ((await residentPages(fd, bytes(0), size)).includes(1)) return undefined;
      // Read as a program would that goes through the file: with the kernel's own reading ahead.
      await fadvise(fd, bytes(0), bytes(0), FADV.NORMAL);
      const started = performance.now();
      await readThrough(fd, bytes(0), size);
      const seconds = (performance.now() - started) / 1000;
      await fadvise(fd, bytes(0), bytes(0), FADV.DONTNEED);
      return seconds;
    } catch (error) {
      if (!isSystemFailure(error)) throw error;
      return undefined;
    }
  }
}
