/**
 * Runs works that share a name one after the other; each waits for those that hold any of its
 * names. As many wait as there are requests open.
 */
export function oneAtATime() {
  const holders = new Map<string, Promise<void>>()

  return async <T>(names: readonly string[], work: () => Promise<T>): Promise<T> => {
    let holder = firstHolder(names)
    while (holder) {
      await holder
      holder = firstHolder(names)
    }
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    for (const name of names) holders.set(name, held)
    try {
      return await work()
    } finally {
      for (const name of names) holders.delete(name)
      release()
    }
  }

  function firstHolder(names: readonly string[]): Promise<void> | undefined {
    for (const name of names) {
      const holder = holders.get(name)
      if (holder) return holder
    }
    return undefined
  }
}
