import { setTimeout as delay } from 'node:timers/promises'
import type { Browser, Page } from 'playwright-core'
import { api, embedded, startApp } from '../services/app.js'
import { startStandIn } from '../services/ollama-stand-in.js'
import { ended, messageField, openWindow, register, replies, send, tokensOf } from './browser.js'
import { sampleReply } from './sample.js'
import { seedTurns } from './seed.js'

type Test = Parameters<typeof openWindow>[0]

/** How long to scroll through 10,000 messages at most. */
const scrollMs = 120_000
/** The long reply takes 125 s at its own rate. */
const longMs = 300_000

const print = (text: string) => process.stdout.write(`${text}\n`)

/** Prints what the page weighs, when it first paints, and the frames a second of the two long cases. */
export async function measure(run: Test, browser: Browser): Promise<void> {
  await measureLoad(run, browser)
  await measureLongReply(run, browser)
  await measureLongChat(run, browser)
}

async function measureLoad(run: Test, browser: Browser) {
  const { url } = await startApp(run)
  const paints: number[] = []
  let bytes = 0
  for (let n = 0; n < 5; n += 1) {
    const page = await openWindow(run, browser, url)
    await page.getByRole('button', { name: 'Log in' }).waitFor()
    const load = await page.evaluate(() => ({
      paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Number.NaN,
      bytes: [
        ...performance.getEntriesByType('navigation'),
        ...performance.getEntriesByType('resource'),
      ]
        .map((entry) => (entry as PerformanceResourceTiming).transferSize)
        .reduce((sum, size) => sum + size, 0),
    }))
    paints.push(load.paint)
    bytes = load.bytes
    await page.context().close()
  }
  const median = paints.sort((a, b) => a - b)[2] ?? Number.NaN
  print(
    `first load: ${Math.round(bytes / 1000)} KB over the network, first contentful paint ${Math.round(median)} ms`,
  )
}

/** 100,000 characters at 200 tokens a second. */
async function measureLongReply(run: Test, browser: Browser) {
  const text = `${sampleReply}\n\n`.repeat(120).slice(0, 100_000)
  const tokens = text.match(/[\s\S]{1,4}/g) ?? []
  const standIn = await startStandIn({
    script: async function* () {
      const startedAt = performance.now()
      for (const [index, content] of tokens.entries()) {
        const early = startedAt + index * 5 - performance.now()
        if (early > 1) yield { wait: delay(early) }
        yield { content }
      }
    },
  })
  run.teardown(() => standIn.close())
  const { url } = await startApp(run, { OLLAMA_API_URL: standIn.url })
  const page = await openWindow(run, browser, url)
  page.setDefaultTimeout(longMs)
  await register(page)
  await send(page, 'Write a very long reply')
  await replies(page).filter({ hasText: /\w/ }).waitFor()
  const frames = await countFrames(page, async () => {
    await ended(page)
  })
  print(`a reply of ${text.length} characters at 200 tokens a second: ${frames}`)
}

/** 10,000 messages, read upwards. */
async function measureLongChat(run: Test, browser: Browser) {
  const { app, url } = await startApp(run, embedded)
  const page = await openWindow(run, browser, url)
  await register(page)
  const { token, userId } = await tokensOf(page)
  const { body } = await api(url, token)<{ id: string }>('POST', '/api/ai/chats', {})
  const turns = Array.from({ length: 5000 }, (_, n) => ({
    question: `Question ${n}`,
    answer: `Answer ${n}. ${'Some words of it. '.repeat(n % 20)}`,
  }))
  await seedTurns(app.store, { id: body.id, userId }, turns)
  const openedAt = performance.now()
  await page.goto(`${url}/chat/${body.id}`)
  await page.getByText('Answer 4999.').waitFor()
  print(`a chat of 10000 messages: opened in ${Math.round(performance.now() - openedAt)} ms`)
  const frames = await countFrames(page, async () => {
    await page.evaluate(async (scrollMs) => {
      const scroller = document.querySelector('.scroller')
      const isThere = () => document.querySelector('.own-text')?.textContent === 'Question 0'
      const until = performance.now() + scrollMs
      while (scroller && performance.now() < until && !isThere()) {
        scroller.scrollTop -= 400
        await new Promise(requestAnimationFrame)
      }
    }, scrollMs)
  })
  const shown = await page.locator('.turn').count()
  print(`scrolled up through ${shown} of them: ${frames}`)
  const typed = await countFrames(page, async () => {
    await messageField(page).pressSequentially('Typed while all of that is there', { delay: 30 })
  })
  print(`typing there: ${typed}`)
}

/** Frames a second while something goes on, and the longest that the page stood still. */
async function countFrames(page: Page, during: () => Promise<void>): Promise<string> {
  await page.evaluate(() => {
    const deltas: number[] = []
    Object.assign(window, { deltas })
    let last = performance.now()
    const step = (now: number) => {
      deltas.push(now - last)
      last = now
      if ('deltas' in window) requestAnimationFrame(step)
    }
    requestAnimationFrame(step)
  })
  await during()
  const deltas = await page.evaluate(() => {
    const { deltas } = window as unknown as { deltas: number[] }
    delete (window as unknown as { deltas?: number[] }).deltas
    return deltas
  })
  const sorted = deltas.toSorted((a, b) => a - b)
  const totalMs = deltas.reduce((sum, ms) => sum + ms, 0)
  const at = (part: number) => Math.round(sorted[Math.floor((sorted.length - 1) * part)] ?? 0)
  const late = deltas.filter((ms) => ms > 25).length
  return (
    `${((deltas.length / totalMs) * 1000).toFixed(1)} frames a second, ` +
    `99 of 100 within ${at(0.99)} ms, the longest ${at(1)} ms, ${late} of ${deltas.length} late`
  )
}
