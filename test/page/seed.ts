import { newId } from '../../src/ids.js'
import type { NewTurn, Store } from '../../src/stores/store.js'

/** The embedded store keeps the order of those that come together; MongoDB's would not. */
const atOnce = 50

/** Stores turns that have ended, as no client could, in the embedded store. */
export async function seedTurns(
  store: Store,
  chat: { id: string; userId: string },
  turns: readonly { question: string; answer: string }[],
): Promise<void> {
  for (let from = 0; from < turns.length; from += atOnce) {
    const some = turns.slice(from, from + atOnce)
    await Promise.all(some.map((turn) => store.appendTurn(ended(chat, turn))))
  }
}

function ended(
  chat: { id: string; userId: string },
  { question, answer }: { question: string; answer: string },
): NewTurn {
  const common = {
    chatId: chat.id,
    userId: chat.userId,
    status: 'complete' as const,
    createdAt: new Date(),
    epoch: 1,
    epochStart: 0,
    takeovers: 0,
  }
  const usage = {
    messagesSent: 12,
    messagesDropped: 0,
    tokensPerSecond: 31.4,
    firstTokenMs: 212,
    promptTokens: 812,
    replyTokens: 245,
  }
  return {
    message: { ...common, id: newId(), role: 'user', content: question },
    reply: {
      ...common,
      id: newId(),
      role: 'assistant',
      content: answer,
      model: 'llama3.2:3b',
      finishReason: 'stop',
      usage,
      completedAt: new Date(),
    },
    title: question,
  }
}
