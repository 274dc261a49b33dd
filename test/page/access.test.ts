import { createRequire } from 'node:module'
import type axe from 'axe-core'
import type { BrowserContextOptions, Page } from 'playwright-core'
import t from 'tap'
import { startApp } from '../services/app.js'
import { never, type Script, startStandIn } from '../services/ollama-stand-in.js'
import {
  ended,
  inChromium,
  launch,
  messageField,
  openWindow,
  register,
  replies,
  send,
  visit,
} from './browser.js'
import { sampleReply } from './sample.js'

const axePath = createRequire(import.meta.url).resolve('axe-core/axe.min.js')
const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

/** A question that names a state of its reply is left in it. */
const script: Script = function* (body) {
  const question = body.messages.at(-1)?.content ?? ''
  if (question.includes('queue')) yield { wait: never }
  yield { thinking: 'Let me see. '.repeat(500) }
  if (question.includes('think')) yield { wait: never }
  yield { content: sampleReply }
  if (question.includes('middle')) yield { wait: never }
  if (question.includes('break')) yield { line: { error: 'out of memory' } }
  yield { done: { done_reason: question.includes('long') ? 'length' : 'stop', eval_count: 3 } }
}

const windows: Record<string, BrowserContextOptions> = {
  light: {},
  dark: { colorScheme: 'dark' },
  'a phone': { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true },
  // As a window of 1280 pixels is at 200 %.
  'at 200 %': { viewport: { width: 640, height: 400 }, deviceScaleFactor: 2 },
}

for (const [name, options] of Object.entries(windows)) {
  t.test(`axe finds nothing in any state, ${name}`, inChromium, async (t) => {
    const standIn = await startStandIn({ script })
    t.teardown(() => standIn.close())
    const { url } = await startApp(t, {
      OLLAMA_API_URL: standIn.url,
      USER_MAX_CONCURRENT: '3',
      OLLAMA_MAX_CONCURRENT: '3',
    })
    const page = await openWindow(t, await launch(t), url, options)
    await page.context().addInitScript({ path: axePath })
    await page.reload()

    const check = async (state: string) => {
      const found = await page.evaluate(async (runOnly) => {
        const { axe: tool } = window as unknown as { axe: typeof axe }
        const { violations } = await tool.run(document, { runOnly })
        return violations.map(
          ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`,
        )
      }, rules)
      t.same(found, [], state)
      t.ok(await fits(page), `${state}: nothing is cut off at the side`)
    }
    const newChat = async () => {
      await openList(page)
      await page.getByRole('button', { name: 'New chat' }).click()
    }

    await page.getByRole('button', { name: 'Log in' }).click()
    await check('a login without a name')
    await page.getByRole('textbox', { name: 'Username' }).fill('nobody')
    await page.getByLabel('Password').fill('correct horse')
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.getByText('No account has').waitFor()
    await check('a refused login')
    await register(page)
    await page.getByRole('heading', { name: 'What shall we talk about?' }).waitFor()
    await check('an empty start')
    await send(page, 'Say it all, however long')
    await ended(page)
    await page.getByText('reached its longest length').waitFor()
    await page.locator('.hljs-keyword').first().waitFor()
    await check('a conversation')
    await page.getByRole('button', { name: 'Settings' }).click()
    await page.getByText('Options', { exact: true }).click()
    await page.getByLabel('Temperature').fill('9')
    await page.getByLabel('Temperature').press('Tab')
    await page.getByText('From 0 to 5.').waitFor()
    await check('the settings')
    await page.getByRole('button', { name: 'Close the settings' }).click()
    const isNarrow = await openList(page)
    await page.getByRole('button', { name: /^Account of/ }).click()
    await page.getByText('Keyboard').click()
    await page.getByRole('button', { name: 'Delete account' }).click()
    await check('the account')
    await page.keyboard.press('Escape')
    await page.getByRole('link', { name: 'Say it all' }).focus()
    await page.keyboard.press('F2')
    await page.getByRole('textbox', { name: 'Title' }).waitFor()
    await check('a title that is changed')
    await page.keyboard.press('Escape')
    await newChatFrom(page, isNarrow)
    await send(page, 'Let it think')
    await page.getByText('Thinking…').click()
    await check('thinking')
    await newChat()
    await send(page, 'Stay in the middle')
    await replies(page).filter({ hasText: 'the protocol' }).waitFor()
    await check('a reply that is written')
    await newChat()
    await send(page, 'It will break')
    await page.getByText('Ollama reported an error').waitFor()
    await check('an error')
    await newChat()
    await send(page, 'Fill the queue')
    await page.getByText('Starting').waitFor()
    await newChat()
    await send(page, 'Wait in the queue')
    await page.getByText('Next in line').waitFor()
    await check('a place in the queue')
    await openList(page)
    await page.getByRole('link', { name: 'It will break' }).focus()
    await page.keyboard.press('Delete')
    await page.getByText('is deleted').waitFor()
    await check('a deletion that can be taken back')
    await page.goto(`${url}/chat/0123456789abcdef01234567`)
    await page.getByText('There is no such chat.').waitFor()
    await check('a chat that is not there')
  })
}

/** Opens the list of chats where it is hidden. @returns whether it was: the window is narrow. */
async function openList(page: Page): Promise<boolean> {
  const opener = page.getByRole('button', { name: 'Show the chats' })
  if (!(await opener.isVisible())) return false
  await opener.click()
  // Once it is open it takes the focus, which a test must not have set before.
  await page.locator('.sidebar[data-open] :focus').waitFor()
  return true
}

async function newChatFrom(page: Page, isNarrow: boolean) {
  // The list is still open where the window is narrow.
  if (isNarrow) await page.locator('.sidebar[data-open]').waitFor()
  await page.getByRole('button', { name: 'New chat' }).click()
}

const fits = (page: Page) =>
  page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth)

t.test(
  'a screen reader hears whole sentences, and what became of the reply',
  inChromium,
  async (t) => {
    const { url } = await startApp(t, { ELIZA_PACE_MS: '30' })
    const page = await openWindow(t, await launch(t), url)
    await page.context().addInitScript(() => {
      const said: string[] = []
      Object.assign(window, { said })
      Object.assign(HTMLElement.prototype, { ariaNotify: (text: string) => said.push(text) })
    })
    await page.reload()
    await register(page)
    await send(page, 'Men are all alike.')
    await ended(page)
    const text = await replies(page).innerText()
    const said = await page.evaluate(() => (window as unknown as { said: string[] }).said)
    t.equal(said[0], 'The reply begins.')
    t.equal(said.at(-1), 'The reply is complete.')
    const sentences = said.slice(1, -1)
    t.ok(sentences.length >= 2, 'in several pieces')
    for (const sentence of sentences) t.match(sentence, /[.?!]$/)
    t.equal(sentences.join(' '), text)
  },
)

t.test(
  'where a browser cannot be asked to say something, a live region holds it',
  inChromium,
  async (t) => {
    const { url } = await startApp(t, { ELIZA_PACE_MS: '30' })
    const page = await openWindow(t, await launch(t), url)
    await page.context().addInitScript(() => {
      delete (Element.prototype as { ariaNotify?: unknown }).ariaNotify
    })
    await page.reload()
    await register(page)
    await send(page, 'Men are all alike.')
    await page.getByRole('status').filter({ hasText: 'The reply is complete.' }).waitFor()
  },
)

t.test(
  'right-to-left text runs from the right, and does not turn what is around it',
  inChromium,
  async (t) => {
    const arabic = 'مرحبا بالعالم'
    const standIn = await startStandIn({ script: () => [{ content: `${arabic}\n\nAnd English.` }] })
    t.teardown(() => standIn.close())
    const { page } = await visit(t, { OLLAMA_API_URL: standIn.url })
    await send(page, `\u202e${arabic}`)
    await ended(page)
    const directionOf = (text: string) =>
      replies(page)
        .getByText(text)
        .evaluate((element) => getComputedStyle(element).direction)
    t.equal(await directionOf(arabic), 'rtl')
    t.equal(await directionOf('And English.'), 'ltr')
    const label = page.getByRole('button', { name: 'Send' })
    t.equal(await label.evaluate((element) => getComputedStyle(element).direction), 'ltr')
  },
)

t.test('who prefers less motion gets none', inChromium, async (t) => {
  const { url } = await startApp(t, { ELIZA_PACE_MS: '30' })
  const page = await openWindow(t, await launch(t), url, { reducedMotion: 'reduce' })
  await register(page)
  await send(page, 'Men are all alike.')
  await replies(page)
    .filter({ hasText: /\w+ \w+/ })
    .waitFor()
  t.equal(await page.evaluate(() => document.getAnimations().length), 0)
})

t.test(
  'the theme follows the system until one is chosen, and that choice is kept',
  inChromium,
  async (t) => {
    const { url } = await startApp(t)
    const page = await openWindow(t, await launch(t), url, { colorScheme: 'dark' })
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
    await register(page)
    const dark = await ground()
    await page.getByRole('button', { name: /^Account/ }).click()
    await page.getByRole('radio', { name: 'Light' }).check()
    const light = await ground()
    t.not(light, dark)
    await page.reload()
    await messageField(page).waitFor()
    t.equal(await ground(), light)
  },
)
