/**
 * `npm run screenshots -- [FOLDER] [--measure]` writes screenshots of the page to dist/screenshots/, or to the
 * folder, and measures it. Without a folder the two that README shows are written to docs/ too.
 */
import { copyFile, mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { api, startApp } from '../services/app.js'
import { never, type Script, standInModel, startStandIn } from '../services/ollama-stand-in.js'
import {
  ended,
  launch,
  messageField,
  openWindow,
  register,
  replies,
  send,
  tokensOf,
} from './browser.js'
import { measure } from './measure.js'
import { sampleReply } from './sample.js'
import { seedTurns } from './seed.js'

const root = join(import.meta.dirname, '../../..')
const named = process.argv.slice(2).find((word) => !word.startsWith('-'))
const folder = resolve(named ?? join(root, 'dist/screenshots'))
const inReadme: Readonly<Record<string, string>> = {
  streaming: 'page.png',
  'conversation-phone': 'page-phone.png',
}
const endings: (() => unknown)[] = []
const run = {
  teardown: (end: () => unknown) => endings.unshift(end),
  fail(message: string) {
    throw new Error(message)
  },
}

const models = [
  { ...standInModel, name: 'llama3.2:3b' },
  { ...standInModel, name: 'qwen3:8b' },
]

/** Answers with the sample; a question that names a state of a reply is left in it. */
const script: Script = async function* (body) {
  const question = body.messages.at(-1)?.content ?? ''
  if (question.includes('queue')) yield { wait: never }
  yield {
    thinking: 'The reader wants the rule, then why. Three cases, a function, a table of examples.',
  }
  yield { wait: delay(1200) }
  if (question.includes('break')) {
    yield { content: 'A frame that is lost leaves ' }
    yield { line: { error: 'model runner has unexpectedly stopped' } }
  }
  const half = question.includes('middle') ? (sampleReply.split('| `again`')[0] ?? '') : sampleReply
  for (const word of half.match(/\s*\S+/g) ?? []) yield { content: word }
  if (half !== sampleReply) yield { wait: never }
  yield {
    done: {
      done_reason: 'stop',
      prompt_eval_count: 41,
      prompt_eval_duration: 9e7,
      eval_count: 262,
      eval_duration: 8.4e9,
    },
  }
}

async function shoot(page: Page, name: string): Promise<void> {
  await page.waitForTimeout(400)
  const path = join(folder, `${name}.png`)
  await page.screenshot({ path })
  process.stdout.write(`${path}\n`)
  const readme = inReadme[name]
  if (readme && named === undefined) await copyFile(path, join(root, 'docs', readme))
}

const questions = [
  'How does a client know what it missed?',
  'Why UTF-16 units?',
  'A recipe for bread without kneading',
  'What did Weizenbaum think of ELIZA?',
  'Names for a boat',
  'Explain leases as to a gardener',
]

/** A window of a new account that has some chats. */
async function inhabited(browser: Browser, options: BrowserContextOptions = {}) {
  const page = await openWindow(run, browser, url, options)
  await register(page)
  const { token, userId } = await tokensOf(page)
  for (const question of questions.toReversed()) {
    const { body } = await api(url, token)<{ id: string }>('POST', '/api/ai/chats', {})
    await seedTurns(app.store, { id: body.id, userId }, [{ question, answer: sampleReply }])
  }
  await page.reload()
  await messageField(page).waitFor()
  return page
}

await mkdir(folder, { recursive: true })
const standIn = await startStandIn({ models, script })
endings.unshift(() => standIn.close())
const { app, url } = await startApp(run, {
  OLLAMA_API_URL: standIn.url,
  USER_MAX_CONCURRENT: '2',
  OLLAMA_MAX_CONCURRENT: '4',
})
const browser = await launch(run)

async function settle(page: Page, theme: string) {
  await send(page, 'What if a frame is lost?')
  await ended(page)
  await page.locator('.scroller').evaluate((scroller) => scroller.scrollTo({ top: 0 }))
  await shoot(page, `conversation${theme}`)
}

try {
  const page = await inhabited(browser)
  await settle(page, '')
  await page.getByRole('button', { name: 'Settings' }).click()
  await shoot(page, 'settings')
  await page.getByRole('button', { name: 'Close the settings' }).click()
  await page.getByRole('button', { name: /^Account/ }).click()
  await shoot(page, 'account')
  await page.keyboard.press('Escape')
  await page.getByRole('button', { name: 'New chat' }).click()
  await send(page, 'What happens when connections break?')
  await page.getByText('Ollama reported an error').waitFor()
  await shoot(page, 'error')
  await page.getByRole('button', { name: 'New chat' }).click()
  await send(page, 'What if it dies in the middle?')
  await page.getByText('rejoin from there').waitFor()
  await shoot(page, 'streaming')
  await page.getByRole('button', { name: 'New chat' }).click()
  await send(page, 'Fill the queue')
  await page.waitForURL(/chat/)
  await page.getByRole('button', { name: 'New chat' }).click()
  await send(page, 'Wait in the queue')
  await page.getByText('Next in line').waitFor()
  await shoot(page, 'queue')

  await settle(await inhabited(browser, { colorScheme: 'dark' }), '-dark')
  const phone = await inhabited(browser, {
    colorScheme: 'dark',
    viewport: { width: 390, height: 760 },
    hasTouch: true,
  })
  await settle(phone, '-phone')
  await phone.getByRole('button', { name: 'Show the chats' }).click()
  await shoot(phone, 'chats-phone')

  const eliza = await startApp(run, { ELIZA_PACE_MS: '40' })
  const first = await openWindow(run, browser, eliza.url)
  await first.getByRole('button', { name: 'Log in' }).waitFor()
  await shoot(first, 'login')
  await register(first)
  await first.getByText('No Ollama').waitFor()
  await shoot(first, 'empty')
  await send(first, 'Men are all alike.')
  await replies(first)
    .filter({ hasText: /\w+ \w+ \w+/ })
    .waitFor()
  await shoot(first, 'eliza')

  if (process.argv.includes('--measure')) await measure(run, browser)
} finally {
  for (const end of endings) await end()
}
