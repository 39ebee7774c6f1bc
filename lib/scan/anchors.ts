import { closeFd, O, openAt } from '../kernel/handle.ts';
import { CONFINED } from './confined.ts';

/** A directory deep in a tree, from which paths go on: no single path reaches further than PATH_MAX. */
export class Anchor {
  readonly parent: Anchor | undefined;
  /** From the parent, or from the root of the tree: a byte per character. */
  readonly path: string;
  fd: Promise<number> | undefined;
  users = 0;

  constructor(parent: Anchor | undefined, path: string) {
    this.parent = parent;
    this.path = path;
  }
}

/** How many stay open for the next user, so that going down a deep tree opens each anchor once. */
const KEPT = 16;

/** Opens anchors when they are needed and keeps those used last. */
export class Anchors {
  readonly #rootFd: number;
  /** Those that are open, the one used longest ago first. */
  readonly #open = new Set<Anchor>();

  constructor(rootFd: number) {
    this.#rootFd = rootFd;
  }

  /**
   * A descriptor to open paths from, until it is released.
   *
   * @throws SystemError as openat2(2)
   */
  use(anchor: Anchor): Promise<number> {
    anchor.users++;
    this.#open.delete(anchor);
    this.#open.add(anchor);
    return (anchor.fd ??= this.#openFrom(anchor));
  }

  release(anchor: Anchor): void {
    anchor.users--;
    if (this.#open.size > KEPT) void this.#close(this.#open.size - KEPT);
  }

  /** Closes all of them; none may be in use. */
  async close(): Promise<void> {
    await this.#close(this.#open.size);
  }

  async #openFrom({ parent, path }: Anchor): Promise<number> {
    const flags = O.PATH | O.DIRECTORY | O.NOFOLLOW;
    try {
      const fd = parent === undefined ? this.#rootFd : await this.use(parent);
      return await openAt(fd, Buffer.from(path, 'latin1'), flags, { resolve: CONFINED });
    } finally {
      if (parent !== undefined) this.release(parent);
    }
  }

  async #close(count: number): Promise<void> {
    const unused = [...this.#open].filter(({ users }) => users === 0).slice(0, count);
    const fds = unused.flatMap(({ fd }) => fd ?? []);
    for (const anchor of unused) {
      this.#open.delete(anchor);
      anchor.fd = undefined;
    }
    // One that could not be opened has failed where it was wanted.
    for (const fd of await Promise.allSettled(fds)) if (fd.status === 'fulfilled') await closeFd(fd.value);
  }
}
