import type { Log } from './logging.js'

/** Logs once that something began to fail and once that it works again, however often it is tried. */
export class Outage {
  #isOn = false

  constructor(
    private readonly log: Log,
    private readonly messages: { failing: string; over: string },
  ) {}

  failed(error: unknown, details: object = {}): void {
    if (!this.#isOn) this.log.warn({ err: error, ...details }, this.messages.failing)
    this.#isOn = true
  }

  over(): void {
    if (this.#isOn) this.log.info({}, this.messages.over)
    this.#isOn = false
  }
}
