import t from 'tap'
import { seededRandom } from '../services/random.js'
import { inChromium } from './browser.js'
import type { Harness } from './markdown-harness.js'
import { openHarness } from './markdown-page.js'

declare const harness: Harness

/** What random texts are put together from. */
const atoms = [
  ...'*_`~[]()<>!|#-+:\\&;$="\'\n\t ',
  ...['\n\n', '  \n', '    ', '\r\n', '> ', '- ', '1. ', '- [x] ', '[r]: ', '\ud83d', '\ude00'],
  ...'``` ~~~ ** ]( |-|-| ![ [r] === --- <!-- --> <b> </b> &amp; &#x202e; javascript:'.split(' '),
  ...'a word 0 é 日本 😀 👩‍👩‍👧 \u202e https://a.b'.split(' '),
]

t.test('Markdown', inChromium, async (t) => {
  const random = seededRandom(t)
  const page = await openHarness(t, false)

  t.test('random texts, cut anywhere', async (t) => {
    const texts = Array.from({ length: 400 }, () =>
      Array.from({ length: 5 + random(60) }, () => atoms[random(atoms.length)]).join(''),
    )
    const faults = await page.evaluate(
      (texts) =>
        texts.map((text) =>
          harness.grown(
            text,
            Array.from(text.split(''), (_, at) => at),
          ),
        ),
      texts,
    )
    t.same(faults.filter(Boolean), [])
  })

  t.test(
    'a growing reply is read, and its elements are made, in proportion to its length',
    async (t) => {
      const part =
        'Words, *emphasis*.\n\n- one\n- two\n\n```ts\ncode()\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quote\n\n'
      const work = (count: number) =>
        page.evaluate((text) => harness.work(text, 40), part.repeat(count * 5))
      const [once, twice] = [await work(20), await work(40)]
      t.comment(once, twice)
      t.ok(twice.unitsRead < 2.5 * once.unitsRead)
      t.ok(twice.removed < 2.5 * once.removed)
    },
  )

  t.test(
    'what definitions at the end change is made again in proportion to its length',
    async (t) => {
      const text = (count: number) =>
        Array.from(
          { length: count },
          (_, n) => `[r${n}]: https://example.org/${n}\n\n[r${n}]`,
        ).join('\n\n')
      const cost = (count: number) => page.evaluate((text) => harness.cost(text), text(count))
      const [once, four] = [await cost(1000), await cost(4000)]
      t.comment(once, four)
      t.ok(four.ms < 10 * Math.max(once.ms, 30), `${once.ms} ms, then ${four.ms} ms`)
    },
  )

  for (const [name, make] of Object.entries(hostile)) {
    t.test(`${name} are read in proportion to their length`, async (t) => {
      const cost = (n: number) => page.evaluate((text) => harness.cost(text), make(n))
      const [once, four] = [await cost(2000), await cost(8000)]
      t.comment(once, four)
      t.ok(four.unitsRead < 50 * 8000)
      // Where little is to be done, it is not the text that takes the time.
      t.ok(four.ms < 10 * Math.max(once.ms, 100), `${once.ms} ms, then ${four.ms} ms`)
    })
  }
})

const filled = (part: string) => (length: number) =>
  part.repeat(Math.ceil(length / part.length)).slice(0, length)

/** Texts of a length that parsers are slow to read. */
const hostile: Readonly<Record<string, (length: number) => string>> = {
  quotes: filled('>'),
  'quotes with spaces': filled('> '),
  'lists in lists': filled('1. '),
  'lists in quotes': filled('> - '),
  'quotes that deepen by lines': (length) => {
    const lines = Math.floor(Math.sqrt(2 * length))
    return Array.from({ length: lines }, (_, depth) => `${'>'.repeat(depth)}a`).join('\n')
  },
  'open brackets': filled('['),
  'brackets in brackets': (length) => '['.repeat(length / 2) + ']'.repeat(length / 2),
  'links without an end': filled('[a](b'),
  images: filled('!['),
  stars: filled('*a **b '),
  underscores: filled('_a'),
  backticks: filled('` `` ``` '),
  tags: filled('<a '),
  comments: filled('<!--'),
  'email addresses': filled('a.b@'),
  'cells of wide rows': (length) => {
    const row = filled('x|')(length / 3)
    return `|${row}\n|${filled('-|')(length / 3)}\n|${row}`
  },
  rows: (length) => `|a|b|\n|-|-|\n${filled('|c|d|\n')(length)}`,
  'references without end': filled('[a]: b\n'),
  letters: filled('x'),
  lines: filled('word\n'),
  fences: filled('```\n'),
}
