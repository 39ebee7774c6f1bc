import { createRequire } from 'node:module';

/** Answers whether a path, relative to the target, matches. */
export type Matcher = (relativePath: Buffer) => boolean;

/**
 * A matcher for glob patterns: one without a slash matches a name at any depth, one with a slash matches the path
 * from the target on. What lies below a matching directory is excluded with it (the walk does not enter it).
 */
export function excludeMatcher(patterns: readonly string[]): Matcher {
  if (patterns.length === 0) return () => false;
  // Who excludes nothing does not wait until it is loaded.
  const picomatch = createRequire(import.meta.url)('picomatch') as typeof import('picomatch');
  const compile = (some: string[]) => (some.length === 0 ? () => false : picomatch(some, { dot: true }));
  const byName = compile(patterns.filter((pattern) => !pattern.includes('/')));
  const byPath = compile(
    patterns.filter((pattern) => pattern.includes('/')).map((pattern) => pattern.replace(/^\/|\/$/g, '')),
  );
  return (relativePath) => {
    const path = relativePath.toString();
    return byName(path.slice(path.lastIndexOf('/') + 1)) || byPath(path);
  };
}

/**
 * The same for all of a filesystem, by paths from its root on: what would match from there is left out as well.
 *
 * @param folder the target's path in its filesystem
 */
export function excludeMatcherFromRoot(patterns: readonly string[], folder: Buffer): Matcher {
  const matches = excludeMatcher(patterns);
  const prefix = folder.length === 0 ? folder : Buffer.concat([folder, Buffer.from('/')]);
  return (path) =>
    matches(path) ||
    (path.subarray(0, prefix.length).equals(prefix) && matches(path.subarray(prefix.length)));
}
