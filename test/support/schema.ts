// The JSON Schema of what --json prints, from the types of the events: npm run schema
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createGenerator } from 'ts-json-schema-generator';
import { SCHEMA } from '../../lib/report/json.ts';

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));

export const SCHEMA_FILE = path(`share/schema/events-${SCHEMA}.schema.json`);

export interface Schema {
  type?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
  definitions?: Record<string, Schema>;
  additionalProperties?: unknown;
  description?: string;
  [keyword: string]: unknown;
}

/** As lib/report/json.ts prints events: with the schema's version, and bytes in base64 under another name. */
export function eventSchema(): Schema {
  const generator = createGenerator({
    path: path('lib/report/events.ts'),
    tsconfig: path('tsconfig.json'),
    type: 'Event',
    expose: 'export',
    topRef: true,
    jsDoc: 'extended',
    skipTypeCheck: true,
    additionalProperties: true,
  });
  const { definitions = {} } = generator.createSchema('Event') as Schema;
  for (const schema of Object.values(definitions)) printed(schema);
  const used = reachable(definitions, 'Event');
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    $id: `https://ext4-defrag.invalid/events-${SCHEMA}.schema.json`,
    title: 'A line of ext4-defrag --json',
    description:
      'Every line is one event; the last is the summary. Fields and events may be added to a version of the schema, none is renamed or taken away.',
    $ref: '#/definitions/Event',
    definitions: Object.fromEntries(
      Object.entries(definitions)
        .filter(([name]) => used.has(name))
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
  };
}

/** Changes a type's schema into that of its JSON. */
function printed(schema: Schema): void {
  const { properties } = schema;
  if (properties !== undefined) {
    for (const name of Object.keys(properties).filter(
      (key) => key.endsWith('Bytes') && isBuffer(properties[key]),
    )) {
      properties[name.replace(/Bytes$/, 'Base64')] = {
        type: 'string',
        contentEncoding: 'base64',
        description: `The bytes of ${name.replace(/Bytes$/, '')}, where they are not UTF-8.`,
      };
      delete properties[name];
    }
    if (properties.skipped !== undefined) {
      properties.skipped = {
        type: 'object',
        propertyNames: { $ref: '#/definitions/Reason' },
        additionalProperties: { type: 'number' },
        description: 'How many files were left alone for each reason.',
      };
    }
    if (properties.type?.const !== undefined) {
      schema.properties = { type: properties.type, schema: { const: SCHEMA }, ...properties };
      schema.required = ['schema', ...(schema.required ?? [])];
    }
  }
  for (const value of Object.values(schema)) {
    if (typeof value === 'object' && value !== null) printed(value as Schema);
  }
  // The generator puts a space on either side of a link, and one inside.
  if (typeof schema.description === 'string')
    schema.description = schema.description.replace(/ ?\{@link +(\w+) *\} ?/g, '$1');
}

const isBuffer = ({ $ref }: Schema): boolean => typeof $ref === 'string' && $ref.endsWith('Buffer');

/** The definitions that one of them is made of. */
function reachable(definitions: Record<string, Schema>, root: string): Set<string> {
  const found = new Set<string>();
  const visit = (name: string) => {
    if (found.has(name)) return;
    found.add(name);
    const text = JSON.stringify(definitions[name]);
    for (const [, other] of text.matchAll(/"#\/definitions\/([^"]+)"/g)) visit(decodeURIComponent(other));
  };
  visit(root);
  return found;
}

/** The text of the file. */
export const schemaText = (): string => `${JSON.stringify(eventSchema(), undefined, 2)}\n`;

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(SCHEMA_FILE, schemaText());
