/** Bundled for a page of its own by markdown-page.ts: renders Markdown as the page does. */
import { Lexer } from 'marked'
import { h, render } from 'preact'
import { Markdown } from '../../web/page/markdown/markdown.js'
import { Announcer } from '../../web/page/store/announcer.js'
import { type Store, StoreProvider } from '../../web/page/store/store.js'

/** What the renderer needs of it. */
const store = { announcer: new Announcer() } as Store

/** How much text was read as Markdown, in UTF-16 units. */
let unitsRead = 0
for (const name of ['blockTokens', 'inlineTokens'] as const) {
  const read: (...input: never[]) => unknown = Lexer.prototype[name]
  Object.assign(Lexer.prototype, {
    [name](this: Lexer, text: string, ...rest: unknown[]) {
      unitsRead += text.length
      return Reflect.apply(read, this, [text, ...rest])
    },
  })
}

function show(into: Element, text: string, isWhole: boolean): string {
  render(h(StoreProvider, { value: store }, h(Markdown, { text, isWhole })), into)
  return into.innerHTML
}

function rendered(text: string, isWhole: boolean): string {
  const into = document.createElement('div')
  const html = show(into, text, isWhole)
  render(null, into)
  return html
}

const harness = {
  /** Shows a text, of which more may come unless it is whole. */
  show,

  /** What differs when a text comes in pieces that end at `ends`; undefined where nothing does. */
  grown(text: string, ends: readonly number[]): string | undefined {
    const into = document.createElement('div')
    for (const end of ends) {
      try {
        show(into, text.slice(0, end), false)
      } catch (error) {
        return `the first ${end} of ${JSON.stringify(text)}: ${error}`
      }
    }
    const last = show(into, text, true)
    const whole = document.createElement('div')
    const expected = show(whole, text, true)
    // Attributes may come in another order.
    const isEqual = into.isEqualNode(whole)
    render(null, into)
    render(null, whole)
    return isEqual ? undefined : `${JSON.stringify(text)} in pieces: ${last}\nat once: ${expected}`
  },

  /** How much is read, and how many elements are replaced, while a text comes in pieces of one length. */
  work(text: string, step: number) {
    const into = document.createElement('div')
    document.body.append(into)
    const observer = new MutationObserver(() => {})
    observer.observe(into, { childList: true, subtree: true })
    let removed = 0
    unitsRead = 0
    for (let end = step; end < text.length; end += step) {
      show(into, text.slice(0, end), false)
      for (const record of observer.takeRecords()) removed += record.removedNodes.length
    }
    render(null, into)
    into.remove()
    return { unitsRead, removed }
  },

  /** The units that are read of a text, and the milliseconds that its end takes; the best of three. */
  cost(text: string) {
    unitsRead = 0
    rendered(text, true)
    const once = unitsRead
    const times = [0, 1, 2].map(() => {
      const into = document.createElement('div')
      document.body.append(into)
      show(into, text, false)
      const began = performance.now()
      show(into, text, true)
      into.getBoundingClientRect()
      const tookMs = performance.now() - began
      render(null, into)
      into.remove()
      return tookMs
    })
    return { unitsRead: once, ms: Math.min(...times) }
  },
}

export type Harness = typeof harness
Object.assign(window, { harness })
