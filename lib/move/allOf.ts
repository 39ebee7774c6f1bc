/** Waits for all, also when one fails, and then throws the first error: what they use may be closed afterwards. */
export async function allOf<T>(promises: Iterable<Promise<T>>): Promise<T[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
