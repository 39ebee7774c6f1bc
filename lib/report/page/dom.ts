type Attributes = Readonly<Record<string, string | number | boolean>>;

/** An element, its attributes, and its children. Text is text: it is never read as HTML. */
export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== false) made.setAttribute(key, value === true ? '' : String(value));
  }
  made.append(...children);
  return made;
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no ${id}`);
  return found as T;
}

/** Puts rows under a heading into a table. */
export function fillTable(
  table: HTMLTableElement,
  heading: readonly string[],
  rows: readonly (readonly (Node | string)[])[],
): void {
  const cells = (row: readonly (Node | string)[], name: 'td' | 'th') =>
    row.map((cell, i) =>
      element(name, { class: i > 0 && 'number', ...(name === 'th' && { scope: 'col' }) }, cell),
    );
  table.replaceChildren(
    element('thead', {}, element('tr', {}, ...cells(heading, 'th'))),
    element('tbody', {}, ...rows.map((row) => element('tr', {}, ...cells(row, 'td')))),
  );
}
