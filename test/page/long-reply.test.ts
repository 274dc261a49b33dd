import { setTimeout as delay } from 'node:timers/promises'
import type { Page } from 'playwright-core'
import t from 'tap'
import { startStandIn } from '../services/ollama-stand-in.js'
import { ended, inChromium, replies, send, visit } from './browser.js'

t.test('a reply of 100,000 characters', inChromium, async (t) => {
  const part = (n: number) =>
    `## Part ${n}\n\nWords with *emphasis*, \`code\` and [a link](https://example.org/${n}).\n\n- one\n- two\n\n` +
    `\`\`\`ts\nconst part = ${n}\n\`\`\`\n\n| a | b |\n|---|---|\n| ${n} | 2 |\n\n${'More words. '.repeat(40)}\n\n`
  const text = Array.from({ length: 200 }, (_, n) => part(n))
    .join('')
    .slice(0, 100_000)
  const pieces = text.match(/[\s\S]{1,200}/g) ?? []
  let goOn = () => {}
  const isRead = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const standIn = await startStandIn({
    script: async function* () {
      for (const [index, content] of pieces.entries()) {
        yield { content }
        yield { wait: index === 100 ? isRead : delay(5) }
      }
    },
  })
  t.teardown(() => standIn.close())
  const { page } = await visit(t, { OLLAMA_API_URL: standIn.url })
  await send(page, 'Write a very long reply')
  await page.getByRole('heading', { name: 'Part 20' }).waitFor()
  t.ok(await isAtEnd(page), 'who is at the end is kept there')

  // A person scrolls up, to read.
  const read = page.getByRole('heading', { name: 'Part 10', exact: true })
  await read.evaluate((element) => {
    element.scrollIntoView({ block: 'center' })
    Object.assign(window, { read: element })
  })
  await page.getByRole('button', { name: 'To the end' }).waitFor()
  const before = await topOf(page)
  goOn()
  await ended(page)
  t.ok(Math.abs((await topOf(page)) - before) < 1, 'who reads further up is not moved')
  t.ok(
    await read.evaluate((element) => (window as unknown as { read: Element }).read === element),
    'what was written is not made again when the reply ends',
  )
  await page.getByRole('button', { name: 'To the end' }).click()
  t.ok(await isAtEnd(page))

  const shown = await replies(page).evaluate((element) => element.textContent)
  const parts = [...(shown ?? '').matchAll(/Part (\d+)W/g)].map(([, n]) => Number(n))
  t.same(
    parts,
    parts.map((_, n) => n),
  )
  t.equal(parts.length, text.match(/^## /gm)?.length)
})

const isAtEnd = (page: Page) =>
  page.evaluate(async () => {
    // What a frame has laid out is followed before it is painted, but after its callbacks.
    await new Promise(requestAnimationFrame)
    await new Promise((resolve) => setTimeout(resolve))
    const scroller = document.querySelector('.scroller')
    if (!scroller) return false
    return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48
  })

const topOf = (page: Page) =>
  page.evaluate(() => (window as unknown as { read: Element }).read.getBoundingClientRect().top)
