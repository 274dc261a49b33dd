interface Commented {
  comment(text: string): void
}

/** Random numbers that SEED repeats; the seed is printed. @returns whole numbers below `n`. */
export function seededRandom(t: Commented): (n: number) => number {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
  t.comment(`SEED=${seed}`)
  let state = seed
  return (n) => {
    state = (state * 1103515245 + 12345) % 2147483648
    // The low bits of this generator repeat soon.
    return (state >>> 8) % n
  }
}
