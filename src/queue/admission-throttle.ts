/** So many may pass in one turn of the loop; a longer queue, a quarter of itself. */
const perTurn = { atLeast: 32, ofWaiting: 1 / 4 }

/**
 * Lets callers through in the order they came, so many in a turn of the loop: five hundred messages
 * sent at once are taken up in slices, between which running replies are read and told, and the
 * first are answered while the last wait. Who comes alone does not wait.
 *
 * No queue of its own grows here: the more wait, the more pass.
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
