import { signal } from '@preact/signals'

/** Says things to screen readers: by `ariaNotify` where the browser has it, else by a live region. */
export class Announcer {
  /** What the live region holds. */
  readonly region = signal('')

  say(text: string): void {
    const { body } = document as { body: HTMLElement & { ariaNotify?: (text: string) => void } }
    if (body.ariaNotify) body.ariaNotify(text)
    else this.region.value = text
  }
}
