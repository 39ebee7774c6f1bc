// Kernel modules: which ones there are to load, and in which order.

/** The parts of Debian's module tree that a storage test can use; the rest is most of its size. */
export const usefulModuleFolders = [
  'arch',
  'block',
  'crypto',
  'drivers/block',
  'drivers/char',
  'drivers/dax',
  'drivers/md',
  'drivers/nvdimm',
  'drivers/scsi',
  'drivers/virtio',
  'fs',
  'lib',
  'mm',
];

/** Module names differ from file names in nothing but hyphens. */
function moduleName(path: string): string {
  return (path.split('/').at(-1) ?? '').replace(/\.ko(\.\w+)?$/, '').replaceAll('-', '_');
}

/**
 * The files to insert, in order, for the wanted modules to be there; `dep` is a `modules.dep`. Wanted modules
 * that do not exist are left out: they are built into this kernel, or it has none.
 */
export function loadOrder(dep: string, wanted: readonly string[]): string[] {
  const needs = new Map<string, { path: string; after: string[] }>();
  for (const line of dep.split('\n')) {
    const [path, after] = line.split(':');
    if (path === undefined || after === undefined) continue;
    needs.set(moduleName(path), { path, after: after.trim().split(/\s+/).filter(Boolean).map(moduleName) });
  }
  const order = new Set<string>();
  const visit = (name: string, above: readonly string[]) => {
    const module = needs.get(name);
    if (!module || order.has(module.path) || above.includes(name)) return;
    for (const dependency of module.after) visit(dependency, [...above, name]);
    order.add(module.path);
  };
  for (const name of wanted) visit(moduleName(name), []);
  return [...order];
}
