import type { Page } from 'playwright-core'
import t from 'tap'
import { api, startApp, testPassword } from '../services/app.js'
import { eventually } from '../services/eventually.js'
import { startStandIn } from '../services/ollama-stand-in.js'
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
  tokensOf,
  visit,
} from './browser.js'

const titles = (page: Page) => page.locator('.chat-list li > a').allInnerTexts()

/** The titles of the chats that are stored. */
async function storedTitles(url: string, token: string): Promise<(string | null)[]> {
  const { body } = await api(url, token)<{ chats: { title: string | null }[] }>(
    'GET',
    '/api/ai/chats',
  )
  return body.chats.map(({ title }) => title)
}

t.test(
  'a deletion can be taken back; else it goes out, also when the page is left',
  inChromium,
  async (t) => {
    const { url, page } = await visit(t)
    const { token } = await tokensOf(page)
    for (const title of ['Third', 'Second', 'First']) {
      await api(url, token)('POST', '/api/ai/chats', { title })
    }
    await page.getByRole('link', { name: 'Third' }).waitFor()
    const remove = async (title: string) => {
      const item = page.locator('.chat-list li').filter({ hasText: title })
      await item.hover()
      await item.getByRole('button', { name: 'Delete' }).click()
      await page.getByRole('link', { name: title }).waitFor({ state: 'detached' })
    }

    await remove('First')
    t.same(await storedTitles(url, token), ['First', 'Second', 'Third'], 'nothing is sent yet')
    await page.getByRole('button', { name: 'Undo' }).click()
    await page.getByRole('link', { name: 'First' }).waitFor()

    await remove('Second')
    await eventually('it is deleted', async () => (await storedTitles(url, token)).length === 2)
    await page.getByText('is deleted').waitFor({ state: 'detached' })
    t.same(await titles(page), ['First', 'Third'])

    await remove('Third')
    await page.close()
    await eventually('that one too', async () => (await storedTitles(url, token)).length === 1)
  },
)

t.test(
  'chats are paged as the list scrolls, and live from other windows',
  inChromium,
  async (t) => {
    const { url, page } = await visit(t)
    const { token } = await tokensOf(page)
    for (let n = 0; n < 75; n += 1)
      await api(url, token)('POST', '/api/ai/chats', { title: `Chat ${n}` })
    await page.reload()
    await page.getByRole('link', { name: 'Chat 74' }).waitFor()
    t.ok((await titles(page)).length < 75)
    await page.locator('.chat-list').evaluate(async (list) => {
      while (!list.textContent?.includes('Chat 0')) {
        list.scrollTop = list.scrollHeight
        await new Promise(requestAnimationFrame)
      }
    })
    t.same(
      await titles(page),
      Array.from({ length: 75 }, (_, n) => `Chat ${74 - n}`),
    )

    const second = await openSecond(page)
    const item = second.locator('.chat-list li').filter({ hasText: 'Chat 74' })
    await item.getByRole('link').dblclick()
    await second.getByRole('textbox', { name: 'Title' }).fill('Renamed')
    await second.keyboard.press('Enter')
    await page.getByRole('link', { name: 'Renamed' }).waitFor()
    await api(url, token)('POST', '/api/ai/chats', { title: 'Made elsewhere' })
    await page.getByRole('link', { name: 'Made elsewhere' }).waitFor()
    t.equal((await titles(page))[0], 'Made elsewhere')
  },
)

t.test('the settings of a chat are kept, checked, and used', inChromium, async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const { page } = await visit(t, { OLLAMA_API_URL: standIn.url, MAX_NUM_PREDICT: '5000' })
  await page.getByRole('button', { name: 'Settings' }).click()
  await page.getByRole('textbox', { name: 'System prompt' }).fill('Answer briefly.')
  await page.getByText('Options', { exact: true }).click()
  await page.getByLabel('Temperature').fill('0.5')
  await page.getByLabel('Temperature').press('Tab')
  await send(page, 'Before the chat was made')
  await ended(page)
  t.match((await standIn.chatCall()).body, {
    messages: [{ role: 'system', content: 'Answer briefly.' }, { role: 'user' }],
    options: { temperature: 0.5 },
  })

  await page.getByLabel('Longest reply').fill('9999')
  await page.getByLabel('Longest reply').press('Tab')
  await page.getByText(/5000/).waitFor()
  await page.getByLabel('Longest reply').fill('7')
  await page.getByLabel('Longest reply').press('Tab')
  await page.getByText('Saved').waitFor()
  await page.reload()
  await page.getByRole('button', { name: 'Settings' }).click()
  await page.getByLabel('Longest reply').waitFor()
  t.equal(await page.getByLabel('Longest reply').inputValue(), '7')
  t.equal(
    await page.getByRole('textbox', { name: 'System prompt' }).inputValue(),
    'Answer briefly.',
  )
  await page.getByRole('button', { name: 'Reset all options' }).click()
  await page.getByText('Saved').waitFor()
  await send(page, 'After')
  await page.getByRole('article', { name: 'You' }).nth(1).waitFor()
  await ended(page)
  t.notMatch((await standIn.chatCall(2)).body.options, { temperature: 0.5 })
})

t.test(
  'a reply says where it waits, how it ended, what it took, and what to do',
  inChromium,
  async (t) => {
    const standIn = await startStandIn()
    t.teardown(() => standIn.close())
    const { page } = await visit(t, { OLLAMA_API_URL: standIn.url, USER_MAX_CONCURRENT: '1' })
    // The queue's forecast needs a reply to go by.
    await send(page, 'len=50 think=60')
    await page.getByText(/^Thought for/).waitFor()
    await page.getByRole('button', { name: 'New chat' }).click()
    await send(page, 'len=4000 rate=100 think=60')
    await page.getByText('Thinking…').waitFor()
    await page.getByRole('button', { name: 'New chat' }).click()
    await send(page, 'len=30')
    await page.getByText('Next in line').waitFor()
    await page.getByText(/begins (in about|soon)/).waitFor()
    await page.getByRole('link', { name: 'len=4000' }).click()
    await page.getByRole('button', { name: 'Stop' }).click()
    await page.getByText('You stopped this reply.').waitFor()
    await page.getByRole('link', { name: 'len=30' }).click()
    await ended(page)
    await page.getByText(/stand-in.* · 1 message sent · .*first token after/).waitFor()

    await send(page, 'fault=cut after=3')
    await page.getByText('Ollama ended the reply before it was done.').waitFor()
    await page.getByRole('button', { name: 'Ask again' }).click()
    await page.getByRole('article', { name: 'You' }).nth(2).waitFor()
    await ended(page)
  },
)

t.test(
  'an expired token, and a network that goes and comes, are not noticed',
  inChromium,
  async (t) => {
    const { url } = await startApp(t, {
      JWT_EXPIRES_IN: '2s',
      ELIZA_PACE_MS: '80',
      RATE_LIMIT_CREDENTIALS_PER_MINUTE: '0',
    })
    const page = await openWindow(t, await launch(t), url)
    await register(page)
    await send(page, 'Men are all alike.')
    await replies(page)
      .filter({ hasText: /\w+ \w+/ })
      .waitFor()
    await page.context().setOffline(true)
    await page.waitForTimeout(2500)
    await page.context().setOffline(false)
    await ended(page)
    await send(page, 'In what way?')
    await page.getByRole('article', { name: 'You' }).nth(1).waitFor()
    await ended(page)
    const shown = await replies(page).allInnerTexts()
    const records = await stored(page)
    t.same(
      shown,
      records.filter(({ role }) => role === 'assistant').map(({ content }) => content),
    )
    t.equal(await page.getByRole('button', { name: 'Log in' }).count(), 0)
  },
)

t.test(
  'a profile is shown, and an account is deleted for its password alone',
  inChromium,
  async (t) => {
    const { page, username } = await visit(t)
    await page.getByRole('button', { name: /^Account/ }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByText(`${username}@example.org`).waitFor()
    await dialog.getByRole('button', { name: 'Delete account' }).click()
    await dialog.getByLabel('Password').fill('not the password')
    await dialog.getByRole('button', { name: 'Delete for good' }).click()
    await dialog.getByText('No account has').waitFor()
    await dialog.getByLabel('Password').fill(testPassword)
    await dialog.getByRole('button', { name: 'Delete for good' }).click()
    await page.getByRole('button', { name: 'Register' }).waitFor()
    await page.getByRole('textbox', { name: 'Username' }).fill(username)
    await page.getByLabel('Password').fill(testPassword)
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.getByText('No account has').waitFor()
  },
)

t.test(
  'what is typed outlives a reload, and goes when its author logs out',
  inChromium,
  async (t) => {
    const { page, username } = await visit(t)
    await messageField(page).fill('Half a thought')
    await page.reload()
    await messageField(page).waitFor()
    t.equal(await messageField(page).inputValue(), 'Half a thought')
    await page.getByRole('button', { name: /^Account/ }).click()
    await page.getByRole('button', { name: 'Log out', exact: true }).click()
    await page.getByRole('textbox', { name: 'Username' }).fill(username)
    await page.getByLabel('Password').fill(testPassword)
    await page.getByRole('button', { name: 'Log in' }).click()
    await messageField(page).waitFor()
    t.equal(await messageField(page).inputValue(), '')
  },
)
