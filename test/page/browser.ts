import { randomBytes } from 'node:crypto'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { startApp, testPassword } from '../services/app.js'
import { eventually } from '../services/eventually.js'

interface Test {
  teardown(end: () => unknown): unknown
  fail(message: string): unknown
}

/** How long a window may take to show what must come, in milliseconds. */
const windowPatienceMs = Number(process.env.PAGE_PATIENCE_MS ?? 90_000)

const executablePath = process.env.TEST_CHROMIUM

/** The options of a test that needs Chromium. */
export const inChromium = { skip: executablePath ? false : 'TEST_CHROMIUM is not set' }

export async function launch(t: Pick<Test, 'teardown'>): Promise<Browser> {
  if (!executablePath)
    throw new Error('Set TEST_CHROMIUM to a Chromium, such as /usr/bin/chromium.')
  const browser = await chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
  t.teardown(() => browser.close())
  return browser
}

/**
 * A window of a browser of its own. The test fails when the page throws, breaks its policy, or asks another
 * host for anything.
 */
export async function openWindow(
  t: Test,
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, ...options })
  context.setDefaultTimeout(windowPatienceMs)
  context.on('page', (page) => watch(t, page, url))
  const page = await context.newPage()
  await page.goto(url)
  return page
}

/** A window of a new account at a server of the test's own. */
export async function visit(t: Test, settings: Readonly<Record<string, string>> = {}) {
  const { app, url } = await startApp(t, settings)
  const page = await openWindow(t, await launch(t), url)
  return { app, url, page, username: await register(page) }
}

/** Another window of the same browser, which shows the same address. */
export async function openSecond(page: Page): Promise<Page> {
  const second = await page.context().newPage()
  await second.goto(page.url())
  return second
}

function watch(t: Test, page: Page, url: string): void {
  const own = new URL(url).host
  page.on('pageerror', (error) => t.fail(`the page threw ${error.stack}`))
  page.on('console', (message) => {
    if (/Content Security Policy|Trusted/i.test(message.text())) t.fail(message.text())
  })
  page.on('request', (request) => {
    const { protocol, host } = new URL(request.url())
    if (protocol !== 'data:' && host !== own) t.fail(`the page asked for ${request.url()}`)
  })
}

export async function register(page: Page, name = 'ada') {
  const username = `${name}-${randomBytes(4).toString('hex')}`
  await page.getByRole('textbox', { name: 'Username' }).fill(username)
  await page.getByRole('textbox', { name: 'Email' }).fill(`${username}@example.org`)
  await page.getByLabel('Password').fill(testPassword)
  await page.getByRole('button', { name: 'Register' }).click()
  await messageField(page).waitFor()
  return username
}

export const messageField = (page: Page) => page.getByRole('textbox', { name: 'Message' })

export async function send(page: Page, content: string): Promise<void> {
  await messageField(page).fill(content)
  await page.getByRole('button', { name: 'Send' }).click()
}

/** The texts of the replies, in order. */
export const replies = (page: Page) => page.locator('.reply-text')

/** Resolves when the last message that is shown is a reply which has ended. */
export async function ended(page: Page): Promise<void> {
  await eventually('the last message is a reply that ended', () =>
    page.evaluate(() => {
      const last = [...document.querySelectorAll('.turn')].at(-1)
      return last?.matches('.reply[aria-busy=false]') ?? false
    }),
  )
  await page.getByRole('button', { name: 'Stop' }).waitFor({ state: 'detached' })
}

/** The tokens of the window's session, as the page keeps them. */
export const tokensOf = (page: Page) =>
  page.evaluate<{ token: string; userId: string }>(() =>
    JSON.parse(localStorage.getItem('durable-chat.tokens') ?? '{}'),
  )

/** The messages of the chat that is shown, as they are stored. */
export async function stored(page: Page) {
  const { token } = await tokensOf(page)
  return page.evaluate(async (token) => {
    const chatId = location.pathname.split('/').at(-1)
    const response = await fetch(`/api/ai/chats/${chatId}?limit=100`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const { messages } = await response.json()
    return messages as { role: string; content: string; status: string }[]
  }, token)
}
