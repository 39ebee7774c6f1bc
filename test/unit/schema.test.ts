import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { eventSchema, SCHEMA_FILE } from '../support/schema.ts';

test('the JSON Schema is that of the events ("npm run schema" makes it anew)', { timeout: 120_000 }, () => {
  expect(JSON.parse(readFileSync(SCHEMA_FILE, 'utf8'))).toEqual(eventSchema());
});
