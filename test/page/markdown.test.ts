import t from 'tap'
import { seededRandom } from '../services/random.js'
import { inChromium } from './browser.js'
import type { Harness } from './markdown-harness.js'
import { openHarness } from './markdown-page.js'
import { corpus } from './sample.js'

declare const harness: Harness

/** Runs in the page: what went wrong while a text grew to its end in steps; undefined when nothing did. */
async function grow({ text, step }: { text: string; step: number }): Promise<string | undefined> {
  const { show } = harness
  const growing = document.createElement('div')
  const whole = document.createElement('div')
  document.body.replaceChildren(growing, whole)
  try {
    for (let end = 0; end < text.length; end += step) show(growing, text.slice(0, end), false)
    show(growing, text, true)
    show(whole, text, true)
  } catch (error) {
    return String(error)
  }
  // Code takes its colours a little later. The order of attributes says nothing.
  const until = performance.now() + 20_000
  while (!growing.isEqualNode(whole)) {
    if (performance.now() > until) return `${growing.innerHTML}\n\nis not\n\n${whole.innerHTML}`
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return undefined
}

t.test(
  'every prefix of Markdown renders, and the last as the whole does',
  inChromium,
  async (t) => {
    const page = await openHarness(t, true)
    const random = seededRandom(t)
    const pick = () => corpus[random(corpus.length)] ?? ''
    const mixed = Array.from({ length: 40 }, () => {
      const [first, second] = [pick(), pick()]
      const cut = random(first.length + 1)
      return `${first.slice(0, cut)}${second.slice(random(second.length + 1))}\n\n${pick()}`
    })
    for (const text of corpus) t.equal(await page.evaluate(grow, { text, step: 1 }), undefined)
    for (const text of mixed) {
      const step = 1 + random(5)
      t.equal(await page.evaluate(grow, { text, step }), undefined, JSON.stringify(text))
    }
  },
)
