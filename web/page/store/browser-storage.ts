/** The part of `Storage` that is used; without one that lasts, as in some private windows, memory. */
export interface KeyValues {
  getItem(key: string): string | null
  setItem(key: string, value: string): void
  removeItem(key: string): void
}

/** A browser's storage, which may be forbidden or full: what it refuses is kept until the window closes. */
export function browserStorage(kind: 'localStorage' | 'sessionStorage'): KeyValues {
  const kept = new Map<string, string>()
  let storage: Storage | undefined
  try {
    storage = window[kind]
  } catch {
    // Forbidden: memory alone.
  }
  return {
    getItem: (key) => kept.get(key) ?? storage?.getItem(key) ?? null,
    setItem(key, value) {
      try {
        if (!storage) throw new Error('no storage')
        storage.setItem(key, value)
        kept.delete(key)
      } catch {
        kept.set(key, value)
      }
    },
    removeItem(key) {
      kept.delete(key)
      storage?.removeItem(key)
    },
  }
}
