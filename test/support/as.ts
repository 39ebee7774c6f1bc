/** A user without rights. */
export const NOBODY = 65534;

/** Does something with another user's rights, which here are a thread pool's too. */
export async function as<T>(user: number, act: () => Promise<T>): Promise<T> {
  process.seteuid?.(user);
  try {
    return await act();
  } finally {
    process.seteuid?.(0);
  }
}
