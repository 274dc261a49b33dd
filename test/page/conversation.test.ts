import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { startApp } from '../services/app.js'
import { eventually } from '../services/eventually.js'
import { freePort } from '../services/free-port.js'
import { startServer } from '../services/server-process.js'
import {
  ended,
  inChromium,
  launch,
  messageField,
  openSecond,
  openWindow,
  register,
  replies,
  send,
  stored,
  visit,
} from './browser.js'

const slow = { ELIZA_PACE_MS: '60' }
/** Enough of a reply to be in the middle of it. */
const begun = /\w+ \w+ \w+/

t.test('a whole conversation by keyboard alone', inChromium, async (t) => {
  const { url } = await startApp(t, slow)
  const page = await openWindow(t, await launch(t), url)
  const { keyboard } = page
  const name = `ada-${Date.now().toString(36)}`
  await page.getByRole('textbox', { name: 'Username' }).waitFor()
  // The first field has the focus.
  await keyboard.type(name)
  await keyboard.press('Tab')
  await keyboard.type(`${name}@example.org`)
  await keyboard.press('Tab')
  await keyboard.type('correct horse battery staple')
  // Past Log in.
  await keyboard.press('Tab')
  await keyboard.press('Tab')
  await keyboard.press('Enter')

  await messageField(page).waitFor()
  await keyboard.type('Men are')
  await keyboard.press('Shift+Enter')
  await keyboard.type('all alike.')
  await keyboard.press('Enter')
  await replies(page).filter({ hasText: begun }).waitFor()
  await keyboard.press('Escape')
  await page.getByText('You stopped this reply.').waitFor()
  t.match(await stored(page), [
    { role: 'user', content: 'Men are\nall alike.' },
    { role: 'assistant', status: 'stopped' },
  ])

  await keyboard.press('Alt+n')
  await page.getByRole('heading', { name: 'New chat' }).waitFor()
  await keyboard.type('I had a dream.')
  await keyboard.press('Enter')
  await page.getByRole('link', { name: 'I had a dream.' }).waitFor()
  await ended(page)

  await keyboard.press('Alt+ArrowDown')
  await page.getByRole('heading', { name: 'Men are all alike.' }).waitFor()
  await keyboard.press('Alt+ArrowUp')
  await page.getByRole('heading', { name: 'I had a dream.' }).waitFor()

  const link = page.getByRole('link', { name: 'I had a dream.' })
  await link.focus()
  await keyboard.press('F2')
  await keyboard.type('Dreams')
  await keyboard.press('Enter')
  await page.getByRole('link', { name: 'Dreams' }).waitFor()
  await eventually('the focus is back', async () =>
    page.evaluate(() => document.activeElement?.textContent === 'Dreams'),
  )
  await keyboard.press('Delete')
  await page.getByRole('link', { name: 'Dreams' }).waitFor({ state: 'detached' })
  await page.getByRole('button', { name: 'Undo' }).focus()
  await keyboard.press('Enter')
  await page.getByRole('link', { name: 'Dreams' }).waitFor()
})

t.test('a reload in the middle goes on where it was', inChromium, async (t) => {
  const { page } = await visit(t, slow)
  await send(page, 'Men are all alike.')
  await replies(page).filter({ hasText: begun }).waitFor()
  const before = await replies(page).innerText()
  await page.reload()
  await replies(page).filter({ hasText: before }).waitFor()
  await ended(page)
  const [, reply] = await stored(page)
  t.equal(await replies(page).innerText(), reply?.content)
  t.equal(reply?.status, 'complete')
})

t.test('two windows write the same reply, and list the same chats', inChromium, async (t) => {
  const { page } = await visit(t, slow)
  await send(page, 'Men are all alike.')
  await page.waitForURL(/\/chat\//)
  const second = await openSecond(page)
  await replies(second).filter({ hasText: begun }).waitFor()
  await Promise.all([ended(page), ended(second)])
  t.equal(await replies(page).innerText(), await replies(second).innerText())

  await send(second, 'In what way?')
  await page.getByRole('article', { name: 'You' }).getByText('In what way?').waitFor()
  await Promise.all([ended(page), ended(second)])
  t.same(await replies(page).allInnerTexts(), await replies(second).allInnerTexts())

  await second.getByRole('button', { name: 'New chat' }).click()
  await send(second, 'Another one')
  await page.getByRole('link', { name: 'Another one' }).waitFor()
})

t.test('a reply outlives kill -9 of its server, in both windows', inChromium, async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'chat-page-'))
  t.teardown(() => rm(dataDir, { recursive: true, force: true }))
  const settings = {
    DATA_DIR: dataDir,
    PORT: `${await freePort()}`,
    ELIZA_PACE_MS: '100',
    LEASE_MS: '1000',
  }
  let server = await startServer(settings)
  t.teardown(() => server.end('SIGKILL'))
  const page = await openWindow(t, await launch(t), server.url)
  await register(page)
  await send(page, 'Men are all alike.')
  await page.waitForURL(/\/chat\//)
  const second = await openSecond(page)
  for (const window of [page, second]) await replies(window).filter({ hasText: begun }).waitFor()
  await server.end('SIGKILL')
  await page.getByText('The server does not answer.').waitFor()
  await messageField(page).fill('What I type meanwhile')
  server = await startServer(settings)
  for (const window of [page, second]) await ended(window)
  const [, reply] = await stored(page)
  t.equal(reply?.status, 'complete')
  for (const window of [page, second]) t.equal(await replies(window).innerText(), reply?.content)
  t.equal(await messageField(page).inputValue(), 'What I type meanwhile')
  await page.getByText('It survived.').waitFor()
})

t.test(
  'a message that is sent while the server is away is kept, and sent once',
  inChromium,
  async (t) => {
    const dataDir = await mkdtemp(join(tmpdir(), 'chat-page-'))
    t.teardown(() => rm(dataDir, { recursive: true, force: true }))
    const settings = { DATA_DIR: dataDir, PORT: `${await freePort()}`, LEASE_MS: '1000' }
    let server = await startServer(settings)
    t.teardown(() => server.end('SIGKILL'))
    const page = await openWindow(t, await launch(t), server.url)
    await register(page)
    await send(page, 'First')
    await ended(page)
    await server.end('SIGKILL')
    await page.getByText('The server does not answer.').waitFor()
    await send(page, 'Written in the dark')
    await page.getByText('Waiting for the connection').waitFor()
    server = await startServer(settings)
    await page.getByText('Waiting').waitFor({ state: 'detached' })
    await ended(page)
    const sent = (await stored(page)).filter(({ content }) => content === 'Written in the dark')
    t.equal(sent.length, 1)

    await server.end('SIGKILL')
    await page.getByText('The server does not answer.').waitFor()
    await page.getByRole('button', { name: 'New chat' }).click()
    await send(page, 'A chat begun in the dark')
    await page.getByText('Waiting for the connection').waitFor()
    server = await startServer(settings)
    await page.getByRole('link', { name: 'A chat begun in the dark' }).waitFor()
    await ended(page)
    t.match(await stored(page), [{ content: 'A chat begun in the dark' }, { status: 'complete' }])
  },
)

t.test(
  'a session that ends elsewhere brings the login back, and keeps what was typed',
  inChromium,
  async (t) => {
    const { url } = await startApp(t)
    const browser = await launch(t)
    const page = await openWindow(t, browser, url)
    const username = await register(page)
    await send(page, 'First')
    await ended(page)
    const address = page.url()
    await messageField(page).fill('Half a thought')

    const elsewhere = await openWindow(t, browser, url)
    await elsewhere.getByRole('textbox', { name: 'Email' }).fill(`${username}@example.org`)
    await elsewhere.getByLabel('Password').fill('correct horse battery staple')
    await elsewhere.getByRole('button', { name: 'Log in' }).click()
    await elsewhere.getByRole('button', { name: /^Account/ }).click()
    await elsewhere.getByRole('button', { name: 'Log out everywhere' }).click()
    await elsewhere.getByRole('button', { name: 'Log in' }).waitFor()

    await page.getByText('You were logged out.').waitFor()
    await page.getByRole('textbox', { name: 'Username' }).fill(username)
    await page.getByLabel('Password').fill('correct horse battery staple')
    await page.getByRole('button', { name: 'Log in' }).click()
    await messageField(page).waitFor()
    t.equal(await messageField(page).inputValue(), 'Half a thought')
    t.equal(page.url(), address)
  },
)
