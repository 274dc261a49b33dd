import { hash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setImmediate as nextTurn } from 'node:timers/promises'
import ElizaBot from 'elizabot'

export interface ElizaMessage {
  role: string
  content: string
}

const script = createRequire(import.meta.url).resolve('elizabot/elizadata.js')
const scriptBytes = readFileSync(script)

// A last message of the assistant is left open here, so that a begun answer can be gone on from.
const template = `{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
<|im_start|>{{ .Role }}
{{ .Content }}{{ if not (and $last (eq .Role "assistant")) }}<|im_end|>
{{ end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ end }}
{{- end }}`

/** What the embedded model tells of itself, in the shapes of Ollama's API. */
export const eliza = {
  name: 'eliza',
  contextLength: 131_072,
  template,
  digest: hash('sha256', scriptBytes),
  size: scriptBytes.length,
  modifiedAt: statSync(script).mtime.toISOString(),
  details: {
    parent_model: '',
    format: 'script',
    family: 'eliza',
    families: ['eliza'],
    parameter_size: '0',
    quantization_level: 'none',
  },
}

const greeting = 'How do you do. Please tell me your problem.'
const farewell = 'Goodbye. It was nice talking to you.'

/** How many answers to the last message make one, and how many of those that answer anything. */
const answersToMessage = 4
const answersToAnything = 5

const longestMemory = 20
const longestMessage = 1_000
/**
 * Of one sentence, in UTF-16 units: its patterns take 5 s for the worst 1,000 and 2 ms for the
 * worst 100.
 */
const longestSentence = 100

/**
 * ELIZA's answer, which depends on nothing but the conversation: the last 20 of the user's messages
 * are told to a new one. Of the last one it says all that it can, so that a stream is long enough
 * to be stopped or rejoined.
 */
export async function elizaAnswer(messages: readonly ElizaMessage[]): Promise<string> {
  const bot = new ElizaBot(true)
  bot.getFinal = () => farewell
  const said = messages
    .filter(({ role }) => role === 'user')
    .slice(-longestMemory)
    .map(({ content }) => digestible(content))
  const last = said.pop()
  if (last === undefined) return greeting
  for (const text of said) {
    bot.transform(text)
    for (let n = 0; n < answersToAnything; n++) bot.transform('')
    await nextTurn()
  }
  const answers = new Set<string>()
  for (let n = 0; n < answersToMessage + answersToAnything; n++) {
    answers.add(bot.transform(n < answersToMessage ? last : ''))
    if (bot.quit) break
    await nextTurn()
  }
  return [...answers].join(' ').replace(/\s+/g, ' ').trim()
}

function digestible(content: string): string {
  return content
    .slice(0, longestMessage)
    .replace(/\s+/g, ' ')
    .split(/[.,?!;]|\bbut\b/i)
    .map((sentence) => sentence.trim().slice(0, longestSentence))
    .filter((sentence) => sentence !== '')
    .join('. ')
}
