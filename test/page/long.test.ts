import type { Page } from 'playwright-core'
import t from 'tap'
import { api, embedded } from '../services/app.js'
import { startStandIn } from '../services/ollama-stand-in.js'
import { ended, inChromium, replies, send, tokensOf, visit } from './browser.js'
import { seedTurns } from './seed.js'

/** A window that shows a new chat with so many turns. */
async function openLong(t: Parameters<typeof visit>[0], count: number) {
  const { app, url, page } = await visit(t, embedded)
  const { token, userId } = await tokensOf(page)
  const { body } = await api(url, token)<{ id: string }>('POST', '/api/ai/chats', {})
  const turns = Array.from({ length: count }, (_, n) => ({
    question: `Question ${n}`,
    answer: `Answer ${n}.\n\n${'Some words of it. '.repeat((n * 7) % 40)}`,
  }))
  await seedTurns(app.store, { id: body.id, userId }, turns)
  await page.goto(`${url}/chat/${body.id}`)
  await page.getByText(`Answer ${count - 1}.`).waitFor()
  return page
}

const scroller = (page: Page) => page.locator('.scroller')
const topOf = (page: Page, text: string) =>
  page.getByText(text, { exact: true }).evaluate((element) => element.getBoundingClientRect().top)

t.test(
  'a chat of 10,000 messages opens at its end, and is read to its beginning',
  inChromium,
  async (t) => {
    const page = await openLong(t, 5000)
    t.ok((await page.locator('.turn').count()) < 200, 'the newest alone are loaded')
    t.ok(await isAtEnd(page))
    await scroller(page).evaluate(async (element) => {
      while (document.querySelector('.own-text')?.textContent !== 'Question 0') {
        element.scrollTop -= 2000
        await new Promise(requestAnimationFrame)
      }
    })
    t.equal(await page.locator('.turn').count(), 10_000)
    await page.getByRole('button', { name: 'To the end' }).click()
    await page.getByText('Answer 4999.').waitFor()
    t.ok(await isAtEnd(page))
  },
)

t.test('earlier messages come without moving what is read', inChromium, async (t) => {
  const page = await openLong(t, 200)
  await scroller(page).evaluate((element) => {
    element.scrollTop = 1500
  })
  const seen = await page.evaluate(() => {
    const inside = [...document.querySelectorAll('.own-text')].find(
      (element) => element.getBoundingClientRect().top > 150,
    )
    return inside?.textContent ?? ''
  })
  const before = await topOf(page, seen)
  const count = await page.locator('.turn').count()
  await scroller(page).evaluate((element) => {
    element.scrollTop -= 400
  })
  await page
    .locator('.turn')
    .nth(count + 10)
    .waitFor({ state: 'attached' })
  const moved = (await topOf(page, seen)) - before
  t.ok(Math.abs(moved - 400) < 3, `moved by ${moved}`)
})

t.test('it follows a reply for who is at the end, and for nobody else', inChromium, async (t) => {
  let more = (_count: number) => {}
  const standIn = await startStandIn({
    script: async function* () {
      for (let n = 0; ; ) {
        const count = await new Promise<number>((resolve) => {
          more = resolve
        })
        if (count === 0) return
        for (const last = n + count; n < last; n += 1) yield { content: `Line ${n} of it.\n\n` }
      }
    },
  })
  t.teardown(() => standIn.close())
  const { page } = await visit(t, { OLLAMA_API_URL: standIn.url })
  await send(page, 'Count')
  await standIn.chatCall()
  more(60)
  await replies(page).filter({ hasText: 'Line 59' }).waitFor()
  t.ok(await isAtEnd(page), 'it follows')

  await scroller(page).hover()
  await page.mouse.wheel(0, -600)
  await page.getByRole('button', { name: 'To the end' }).waitFor()
  const top = await scroller(page).evaluate(({ scrollTop }) => scrollTop)
  more(60)
  await replies(page).filter({ hasText: 'Line 119' }).waitFor()
  t.equal(await scroller(page).evaluate(({ scrollTop }) => scrollTop), top, 'it stays')

  await page.getByRole('button', { name: 'To the end' }).click()
  more(60)
  await replies(page).filter({ hasText: 'Line 179' }).waitFor()
  t.ok(await isAtEnd(page), 'it follows again')
  more(0)
  await ended(page)
  t.ok(await isAtEnd(page), 'to its end')
})

/** Waits for what was laid out last. */
async function isAtEnd(page: Page): Promise<boolean> {
  return page.evaluate(async () => {
    const element = document.querySelector('.scroller')
    if (!element) return false
    for (let frames = 0; frames < 120; frames += 1) {
      const { scrollHeight, scrollTop, clientHeight } = element
      if (frames > 3 && scrollHeight - scrollTop - clientHeight < 2) return true
      await new Promise(requestAnimationFrame)
    }
    return false
  })
}
