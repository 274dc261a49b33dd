import type { Message } from '../client/index.js'
import { strings } from './strings.js'

/** What a reply took: the model, what it was given, and how fast it answered. */
export function UsageLine({ model, usage }: Pick<Message, 'model' | 'usage'>) {
  const text = strings.conversation
  const parts: string[] = []
  if (model !== undefined) parts.push(model)
  if (usage) {
    const { messagesSent, messagesDropped, tokensPerSecond, firstTokenMs, cached } = usage
    const sent = text.contextSent(messagesSent)
    parts.push(messagesDropped > 0 ? `${sent}, ${text.contextLeftOut(messagesDropped)}` : sent)
    if (tokensPerSecond !== undefined) parts.push(text.speed(tokensPerSecond))
    if (firstTokenMs !== undefined) parts.push(text.firstToken(firstTokenMs))
    if (cached) parts.push(text.cached)
  }
  if (parts.length === 0) return null
  return (
    <p class="usage" title={text.contextHelp}>
      <bdi>{parts.join(' · ')}</bdi>
    </p>
  )
}
