import type { Locator } from 'playwright-core'
import t from 'tap'
import { startStandIn } from '../services/ollama-stand-in.js'
import { ended, inChromium, messageField, send, visit } from './browser.js'

/** Ends what isolates it, and turns what follows. */
const turning = '\u2069\u202C\u202Egpj.exe\u2067'
const arabic = 'مرحبا'

t.test('marks of direction turn nothing that is beside them', inChromium, async (t) => {
  const reply = [
    `# Heading ${turning}`,
    'Neighbour one',
    `- item ${turning}\n- Neighbour two\n- [link ${turning}](https://example.org/\u202E)`,
    `> quote ${turning}\n\nNeighbour three`,
    `| a ${turning} | Neighbour four |\n|---|---|\n| ${turning} | Neighbour five |`,
    `\`\`\`js\n${turning}\n// Neighbour six\n\`\`\`\n\nNeighbour seven ${turning}`,
  ].join('\n\n')
  const standIn = await startStandIn({ script: () => [{ content: reply }] })
  t.teardown(() => standIn.close())
  const { page } = await visit(t, { OLLAMA_API_URL: standIn.url })
  for (const title of [`x${turning}`, `${turning}${arabic}`]) {
    await page.getByRole('button', { name: 'New chat' }).click()
    await send(page, title)
    await page.waitForURL(/\/chat\//)
    await ended(page)

    const answer = page.getByRole('article', { name: 'Reply' })
    const numbers = ['one', 'two', 'three', 'four', 'five', 'six', 'seven']
    for (const number of numbers) {
      const text = `Neighbour ${number}`
      t.ok(await runsRight(answer.getByText(text), text), text)
    }
    t.ok(await runsRight(answer.locator('.usage'), 'message sent'))
    t.ok(await runsRight(answer.getByRole('button', { name: 'Copy', exact: true }), 'Copy'))

    const shown = page.getByRole('heading', { level: 1 })
    t.equal(await shown.innerText(), title)
    t.match(await page.title(), / · Durable chat$/)
    t.notMatch(await page.title(), /[\u202a-\u202e\u2066-\u2069]/)

    await page.locator('.chat-list a[aria-current]').focus()
    await page.keyboard.press('Delete')
    await page.getByText('is deleted').last().waitFor()
    t.ok(await runsRight(page.getByText('is deleted').last(), '” is deleted.'), 'the undo bar')
    await messageField(page).waitFor()
  }
})

t.test('lists and quotes stand on the side that their text begins on', inChromium, async (t) => {
  const reply = [
    `- ${arabic}\n- Word ${arabic}`,
    `1. ${arabic}\n\n2. ${arabic}`,
    `> ${arabic}\n>\n> - ${arabic}`,
    `Words\n\n- word ${arabic}\n\n> word ${arabic}`,
  ].join('\n\n')
  const standIn = await startStandIn({ script: () => [{ content: reply }] })
  t.teardown(() => standIn.close())
  const { page } = await visit(t, { OLLAMA_API_URL: standIn.url })
  await send(page, 'Arabic')
  await ended(page)
  const sides = await page
    .locator('.reply-text :is(ul, ol, blockquote)')
    .evaluateAll((elements) => elements.map((element) => getComputedStyle(element).direction))
  t.same(sides, ['rtl', 'rtl', 'rtl', 'rtl', 'ltr', 'ltr'])
  t.ok(await runsRight(page.getByText('Word ', { exact: false }).first(), 'Word'))
})

/** Whether each letter of a text stands on the right of the one before, on its line. */
function runsRight(where: Locator, text: string): Promise<boolean> {
  return where.evaluate((element, text) => {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT)
    const range = document.createRange()
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const at = node.textContent?.indexOf(text) ?? -1
      if (at < 0) continue
      const lefts = Array.from(text, (_, offset) => {
        range.setStart(node, at + offset)
        range.setEnd(node, at + offset + 1)
        return range.getBoundingClientRect().left
      })
      return lefts.every((left, index) => index === 0 || left > (lefts[index - 1] ?? 0))
    }
    return false
  }, text)
}
