import type { Store } from './store.js'

/** The same store, of which every operation is timed, however it ends. */
export function timedStore(
  store: Store,
  observe: (operation: string, seconds: number) => void,
): Store {
  const timed = Object.entries(store).map(([name, method]) => [
    name,
    async (...values: unknown[]) => {
      const began = performance.now()
      try {
        return await method(...values)
      } finally {
        observe(name, (performance.now() - began) / 1000)
      }
    },
  ])
  return Object.fromEntries(timed)
}
