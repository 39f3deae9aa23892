// What could be written at the cursor of a spec: keys of the table that it is in, or values of the key, by the JSON
// schema of specs.

/** What a schema stands for once references are followed: itself, or its alternatives. */
function shapes(root, schema, depth = 0) {
  if (!schema || depth > 8) return [];
  if (schema.$ref) {
    const found = schema.$ref.replace('#/', '').split('/').reduce((of, part) => of?.[part], root);
    return shapes(root, found, depth + 1);
  }
  const inner = [...(schema.oneOf ?? []), ...(schema.anyOf ?? []), ...(schema.allOf ?? [])];
  return [schema, ...inner.flatMap((one) => shapes(root, one, depth + 1))];
}

const constant = (root, schema) => shapes(root, schema).map((of) => of.const).find((of) => of !== undefined);

/** The properties below a path. Of alternatives with a `kind` only the written kind counts, once there is one. */
function properties(root, path, kinds) {
  let reached = shapes(root, root);
  for (const [depth, key] of path.entries()) {
    const below = reached.flatMap((of) => shapes(root, of.properties?.[key]));
    const kind = kinds.get(path.slice(0, depth + 1).join('.'));
    const fitting = below.filter((of) => kind === undefined || !of.properties?.kind || constant(root, of.properties.kind) === kind);
    reached = fitting.length ? fitting : below;
  }
  const found = new Map();
  for (const of of reached) {
    for (const [name, schema] of Object.entries(of.properties ?? {})) found.set(name, [...(found.get(name) ?? []), schema]);
  }
  return found;
}

/** The words that a value may be. */
function values(root, schemas) {
  const all = schemas.flatMap((schema) => shapes(root, schema));
  const words = all.flatMap((of) => (of.const !== undefined ? [of.const] : of.enum ?? (of.type === 'boolean' ? [true, false] : [])));
  return [...new Set(words.filter((word) => word !== null))];
}

/** The table that the line is in, the keys written there, and the kinds of all tables. */
function surroundings(lines, at) {
  const kinds = new Map();
  const keys = new Map();
  let table = [];
  let here = [];
  lines.forEach((line, place) => {
    const header = line.match(/^\s*\[+\s*([\w.-]+)\s*\]+/);
    if (header) table = header[1].split('.');
    if (place === at) here = table;
    const pair = line.match(/^\s*([\w-]+)\s*=\s*(?:"([^"]*)")?/);
    const name = table.join('.');
    if (pair && place !== at) keys.set(name, [...(keys.get(name) ?? []), pair[1]]);
    if (pair?.[1] === 'kind' && pair[2]) kinds.set(name, pair[2]);
  });
  return { here, kinds, written: keys.get(here.join('.')) ?? [] };
}

/** What fits at the cursor: what is shown, what it is about, and what is written from where on. */
export function suggestions(root, text, cursor) {
  const before = text.slice(0, cursor);
  // what stands behind the cursor is not written over
  if (text.slice(cursor).split('\n')[0].trim()) return [];
  const from = before.lastIndexOf('\n') + 1;
  const line = before.slice(from);
  const lines = text.split('\n');
  const { here, kinds, written } = surroundings(lines, before.split('\n').length - 1);
  const known = properties(root, here, kinds);
  const pair = line.match(/^\s*([\w-]+)\s*=\s*("?)([\w-]*)$/);
  if (pair) {
    const [, key, quote, begun] = pair;
    const words = values(root, known.get(key) ?? []).filter((word) => String(word).startsWith(begun));
    const start = cursor - begun.length - quote.length;
    return words.map((word) => ({ label: JSON.stringify(word), about: '', from: start, insert: JSON.stringify(word) }));
  }
  const begun = line.match(/^\s*([\w-]*)$/)?.[1];
  if (begun === undefined) return [];
  const fitting = [...known].filter(([name]) => name.startsWith(begun) && !written.includes(name));
  return fitting.map(([name, schemas]) => {
    const all = schemas.flatMap((schema) => shapes(root, schema));
    const about = schemas[0].description ?? all.find((of) => of.description)?.description ?? '';
    const isTable = all.some((of) => of.properties || of.type === 'object') && !all.some((of) => ['string', 'number', 'integer', 'boolean', 'array'].includes(of.type));
    const insert = isTable ? `[${[...here, name].join('.')}]\n` : `${name} = `;
    return { label: isTable ? `[${[...here, name].join('.')}]` : name, about, from: cursor - begun.length, insert };
  }).slice(0, 40);
}
