const READS = ['read', 'direct-read', 'mapped-read'] as const;
export const SYNCS = ['fsync', 'fdatasync', 'msync', 'drop', 'reopen'] as const;

type Write = 'write' | 'direct-write' | 'mapped-write';
type Change = 'allocate' | 'allocate-keep' | 'punch' | 'zero' | 'zero-keep' | 'collapse' | 'insert';

interface Reading {
  readonly kind: (typeof READS)[number];
  readonly offset: number;
  readonly length: number;
}

/** What test/support/operate.c does with a file. All numbers are bytes, but for the tag, which stands for a content. `drop` writes everything back and empties the cache. */
export type Operation =
  | Reading
  | {
      readonly kind: Write;
      readonly offset: number;
      readonly length: number;
      readonly tag: number;
    }
  | { readonly kind: Change; readonly offset: number; readonly length: number }
  | { readonly kind: 'copy'; readonly offset: number; readonly length: number; readonly to: number }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: (typeof SYNCS)[number] };

export const isRead = (operation: Operation): operation is Reading =>
  (READS as readonly string[]).includes(operation.kind);

/** As operate.c takes it. */
export function lineOf(operation: Operation): string {
  switch (operation.kind) {
    case 'truncate':
      return `truncate ${operation.size}`;
    case 'copy':
      return `copy ${operation.offset} ${operation.length} ${operation.to}`;
    case 'write':
    case 'direct-write':
    case 'mapped-write':
      return `${operation.kind} ${operation.offset} ${operation.length} ${operation.tag}`;
    default:
      return 'offset' in operation
        ? `${operation.kind} ${operation.offset} ${operation.length}`
        : operation.kind;
  }
}
