import t from 'tap'
import { startStandIn } from '../services/ollama-stand-in.js'
import { ended, inChromium, replies, send, visit } from './browser.js'

const hostile = [
  '<script>document.title = "taken"</script>',
  '<img src="https://evil.example/beacon.png" onerror="document.title = \'taken\'">',
  '<style>body { display: none }</style> <link rel="stylesheet" href="https://evil.example/x.css">',
  '<iframe src="https://evil.example/"></iframe><form action="https://evil.example/"><button>Send</button></form>',
  '<svg onload="document.title = \'taken\'"></svg> <a href="javascript:document.title=1">html</a>',
  '![beacon](https://evil.example/pixel.png) ![](//evil.example/p.png) ![d](data:image/svg+xml,<svg/onload=alert(1)>)',
  '[run](javascript:document.title="taken") [run](JaVaScRiPt:alert(1)) [run](java&#10;script:alert(1)) [run](\u0001javascript:alert(1))',
  '[data](data:text/html,<script>alert(1)</script>) [file](file:///etc/passwd) [blob](blob:https://evil.example/1)',
  '[fine](https://example.org/?q="><script>alert(1)</script>) <https://example.org/\u202Egpj.exe>',
  '\u202Etxet desrever \u2066 isolate without end',
  '```html\n<script>document.title = "taken"</script>\n```',
  '| <b>a</b> | `<i>` |\n|---|---|\n| <img src=x> | ![x](https://evil.example/t.png) |',
  '&lt;script&gt; &#60;script&#62;',
].join('\n\n')

/** What a page could be harmed by, of what a reply was made into. */
const harmful =
  'script, style, link, iframe, img, form, object, embed, svg, [onerror], [onload], [style]'

t.test(
  'a hostile reply, title and name stay text, and no other host is asked',
  inChromium,
  async (t) => {
    const standIn = await startStandIn({ script: () => [{ content: hostile }] })
    t.teardown(() => standIn.close())
    // Fails when another host is asked for anything.
    const { page } = await visit(t, { OLLAMA_API_URL: standIn.url })
    await send(page, hostile)
    await ended(page)
    const reply = replies(page)
    // Alignment of a table's cells is set by script, not by text.
    const found = reply.locator(harmful).filter({ hasNot: page.locator('td') })
    const names = await found.evaluateAll((elements) =>
      elements
        .filter((element) => !/^T[DH]$/.test(element.tagName))
        .map(({ outerHTML }) => outerHTML),
    )
    t.same(names, [])
    const hrefs = await reply
      .locator('a')
      .evaluateAll((links) =>
        links.map((link) => [link.getAttribute('href'), link.getAttribute('rel')]),
      )
    for (const [href, rel] of hrefs) {
      t.match(href, /^https:\/\//)
      t.match(rel, 'noopener')
    }
    const text = await reply.innerText()
    for (const part of [
      '<script>document.title',
      'javascript:document',
      'Image: beacon',
      '<style>body',
    ]) {
      t.ok(text.includes(part), `shows ${part}`)
    }
    t.match(await page.getByRole('article', { name: 'You' }).innerText(), '<script>document.title')

    // The title is the message's first words.
    t.match(await page.title(), /^<script>document.title/)
    t.equal(await page.locator('.chat-list').locator('script, img').count(), 0)
    await page.reload()
    await reply.filter({ hasText: 'Image: beacon' }).waitFor()
    t.match(await page.title(), /^<script>document.title/)
  },
)

t.test('a line of a megabyte is shown whole, and the page stays usable', inChromium, async (t) => {
  const piece = 'abcdefghij klmnopqrst '.repeat(700)
  const line = piece.repeat(70)
  const standIn = await startStandIn({
    script: () => Array.from({ length: 70 }, () => ({ content: piece })),
  })
  t.teardown(() => standIn.close())
  const { page } = await visit(t, { OLLAMA_API_URL: standIn.url })
  await send(page, 'Say a megabyte')
  await ended(page)
  const text = await replies(page).evaluate((element) => element.textContent)
  t.equal(text?.trim().length, line.trim().length)
  t.ok(text?.trim() === line.trim(), 'nothing is lost')
  const fits = await page.evaluate(
    () => document.documentElement.scrollWidth <= document.documentElement.clientWidth,
  )
  t.ok(fits)
  await send(page, 'And again')
  await page.getByRole('article', { name: 'You' }).nth(1).waitFor()
  await ended(page)
})

t.test('text that is slow to read as Markdown does not hold the page', inChromium, async (t) => {
  const slow = [
    '_a'.repeat(40_000),
    `${'a.'.repeat(40_000)}@`,
    '>'.repeat(5_000),
    '['.repeat(50_000),
  ]
  let next = 0
  const standIn = await startStandIn({ script: () => [{ content: slow[next++] ?? '' }] })
  t.teardown(() => standIn.close())
  const { page } = await visit(t, { OLLAMA_API_URL: standIn.url })
  for (const [index, text] of slow.entries()) {
    await send(page, `Number ${index}`)
    await page.locator('.reply[aria-busy=false]').nth(index).waitFor()
    const shown = await replies(page)
      .nth(index)
      .evaluate((element) => element.textContent?.length)
    // The outermost of the marks of quotes are quotes.
    t.ok((shown ?? 0) >= text.length - 32, `${text.slice(0, 4)}…`)
  }
})
