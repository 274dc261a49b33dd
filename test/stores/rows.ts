import { newId } from '../../src/ids.js'
import type { ChatRow, NewTurn, SessionRow, UserRow } from '../../src/stores/store.js'

/* Rows as the product makes them, for any store's tests. */

export const aUser = (fields: Partial<UserRow> = {}): UserRow => {
  const id = newId()
  return {
    id,
    username: `user-${id}`,
    email: `user-${id}@example.org`,
    passwordHash: '$2b$12$hash',
    createdAt: new Date(),
    ...fields,
  }
}

export const aSession = (fields: Partial<SessionRow> = {}): SessionRow => ({
  id: newId(),
  userId: newId(),
  generation: 1,
  rotatedAt: new Date(1_000),
  spentAt: [],
  expiresAt: new Date(Date.now() + 3_600_000),
  ...fields,
})

export const aChat = (fields: Partial<ChatRow> = {}): ChatRow => ({
  id: newId(),
  userId: newId(),
  title: null,
  model: null,
  messageCount: 0,
  createdAt: new Date(1_000),
  updatedAt: new Date(1_000),
  ...fields,
})

interface TurnFields {
  content?: string
  owner?: string
  leaseUntil?: Date
}

/** A turn whose reply is queued and held by `owner`. */
export function aTurn(
  chat: Pick<ChatRow, 'id' | 'userId'>,
  { content = 'Hello', owner = 'process-a', leaseUntil = new Date(9e12) }: TurnFields = {},
): NewTurn {
  const common = {
    chatId: chat.id,
    userId: chat.userId,
    createdAt: new Date(5_000),
    epoch: 1,
    epochStart: 0,
    takeovers: 0,
  }
  return {
    message: {
      ...common,
      id: newId(),
      role: 'user',
      content,
      status: 'complete',
      fingerprint: content,
    },
    reply: {
      ...common,
      id: newId(),
      role: 'assistant',
      content: '',
      status: 'queued',
      model: 'eliza',
      options: { temperature: 0.1, seed: 7, stop: ['\n', '"'] },
      owner,
      leaseUntil,
    },
    title: content.slice(0, 40),
  }
}
