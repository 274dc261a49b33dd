/** How many may pass in one turn of the loop; of a longer queue a quarter. */
const perTurn = { atLeast: 32, ofWaiting: 1 / 4 }

/**
 * Lets a bounded number of callers through in each turn of the loop, in order, so that running
 * replies are told between the many messages of a burst. The more wait, the more pass.
 */
export class AdmissionThrottle {
  #waiting: (() => void)[] = []
  #passed = 0
  #isCounting = false

  /** Resolves when the caller may go on. */
  async pass(): Promise<void> {
    if (!this.#isCounting) {
      this.#isCounting = true
      setImmediate(this.#nextTurn)
    }
    if (this.#waiting.length === 0 && this.#passed < perTurn.atLeast) this.#passed++
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  readonly #nextTurn = () => {
    const count = Math.max(perTurn.atLeast, Math.ceil(this.#waiting.length * perTurn.ofWaiting))
    const passing = this.#waiting.splice(0, count)
    this.#passed = passing.length
    this.#isCounting = passing.length > 0
    if (this.#isCounting) setImmediate(this.#nextTurn)
    for (const pass of passing) pass()
  }
}
