import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { refusal, type SafetyFacts } from '../../lib/ext4/safety.ts';
import { COMPAT, INCOMPAT, RO_COMPAT } from '../../lib/ext4/superblock.ts';
import { HINTS } from '../../lib/report/failure.ts';
import { ENDED_BEFORE, FINE_AS_IT_IS } from '../../lib/report/leftAlone.ts';
import { REASONS, type Reason } from '../../lib/scan/reasons.ts';

// Every message to a user says what is wrong, where, and what to do. This goes over all of them, as the source has them:
// a new one is held against the same rule.

const LIB = fileURLToPath(new URL('../../lib/', import.meta.url));

/** Errors whose message a user of the command reads. What is wrong, and with what; the command puts the target before it. */
const FOR_USERS = new Set(['UsageError', 'UnsupportedTarget', 'PlanFileError', 'ToolError']);

/** What a user can do, behind what is wrong. */
const ACTION =
  /(?:[:;,] |\()(?:or )?(?:add|apply|chattr|free|give|grow|install|leave|lower|make|mount|move|name|remount|run|see|space --consolidate|swapoff|try|undo|unmount|use)\b|must be |needs a value: |--allow-[a-z-]+ takes that risk/;

/** Nothing can be done, and that is what is said. */
const IN_VAIN = /the kernel cannot exchange|nothing can (?:put|be)|stays as it was|was put back/;

interface Message {
  readonly where: string;
  readonly text: string;
}

/** All texts that errors for users are made with, each branch of a choice by itself; "…" for what is put in. */
function messages(): Message[] {
  const found: Message[] = [];
  for (const name of readdirSync(LIB, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.ts') || name.endsWith('.d.ts')) continue;
    const source = ts.createSourceFile(
      name,
      readFileSync(join(LIB, name), 'utf8'),
      ts.ScriptTarget.Latest,
      true,
    );
    const visit = (node: ts.Node): void => {
      if (ts.isNewExpression(node) && FOR_USERS.has(node.expression.getText())) {
        const line = source.getLineAndCharacterOfPosition(node.pos).line + 1;
        for (const text of node.arguments?.[0] === undefined ? [] : textsOf(node.arguments[0])) {
          found.push({ where: `lib/${name}:${line}`, text });
        }
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return found;
}

function textsOf(node: ts.Expression): string[] {
  if (ts.isStringLiteralLike(node)) return [node.text];
  if (ts.isTemplateExpression(node)) {
    return [node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join('')];
  }
  if (ts.isConditionalExpression(node)) return [...textsOf(node.whenTrue), ...textsOf(node.whenFalse)];
  if (ts.isBinaryExpression(node)) {
    return textsOf(node.left).flatMap((left) => textsOf(node.right).map((right) => left + right));
  }
  // It is made elsewhere, and seen there, or is another program's.
  return [];
}

describe('messages', () => {
  const all = messages();

  test('there are many', () => expect(all.length).toBeGreaterThan(45));

  test.each(all)('$where: $text', ({ text }) => {
    expect(text).toMatch(ACTION);
    // It names something: what the user gave, an option, a command, or what it is that it speaks of.
    expect(text).toMatch(
      /…|--?[a-z]|\b(?:it|target|device|plan|file|filesystem|explain|UUID|mounted?|here)\b/,
    );
    expect(text).not.toMatch(/\n|[.!]$|\b(?:please|oops|invalid argument|unknown error)\b/i);
  });

  test('the rule finds fault with what only complains', () => {
    for (const text of ['something is wrong', '--top … is not a count', 'there is no option …']) {
      expect(text).not.toMatch(ACTION);
    }
  });
});

describe('what is said of an error of the system', () => {
  test.each(Object.entries(HINTS))('%s: %s', (_, hint) => expect(`: ${hint}`).toMatch(ACTION));
});

describe('reasons for which a file is left alone', () => {
  /** It is the user's own wish, or the file's own state, and said as such. */
  const SAID: ReadonlySet<Reason> = new Set(['open-elsewhere', 'not-improved']);

  test.each(Object.entries(REASONS) as [Reason, string][])('%s: %s', (reason, text) => {
    expect(text).not.toMatch(/\n|\.$/);
    if (FINE_AS_IT_IS.has(reason) || SAID.has(reason)) return;
    expect(ACTION.test(text) || IN_VAIN.test(text) || /\blet its writer\b/.test(text), text).toBe(true);
  });

  test('those of an ended run say how it goes on', () => {
    for (const reason of ENDED_BEFORE) expect(REASONS[reason]).toMatch(/run it again/);
  });
});

describe('refusals of a filesystem', () => {
  const healthy: SafetyFacts = {
    readOnly: false,
    options: new Set(['data=ordered']),
    features: { compat: COMPAT.HAS_JOURNAL, incompat: INCOMPAT.EXTENT, roCompat: 0 },
    fastCommit: false,
    kernel: { major: 6, minor: 12 },
  };
  const none = { allowFastCommit: false, allowNoJournal: false };
  const features = (compat: number, roCompat = 0) =>
    ({ compat, incompat: INCOMPAT.EXTENT, roCompat }) as SafetyFacts['features'];

  test.each<[string, Partial<SafetyFacts>]>([
    ['read-only', { readOnly: true }],
    ['bigalloc', { features: features(COMPAT.HAS_JOURNAL, RO_COMPAT.BIGALLOC) }],
    ['data=journal', { options: new Set(['data=journal']) }],
    ['dax', { options: new Set(['dax']) }],
    ['unknown', { options: undefined, features: undefined }],
    ['no journal', { features: features(0) }],
    ['fast_commit', { features: features(COMPAT.HAS_JOURNAL | COMPAT.FAST_COMMIT) }],
  ])('%s', (_, facts) => {
    const text = refusal({ ...healthy, ...facts }, none) ?? '';
    expect(text).toMatch(/^it |^neither its /);
    expect(
      ACTION.test(text) || IN_VAIN.test(text) || /whose clusters the kernel cannot/.test(text),
      text,
    ).toBe(true);
  });
});
