import type { Chat, ChatSummary } from '../../schemas/chats.js'
import type { Message, MessageStart } from '../../schemas/messages.js'
import type { ChatRow, MessageRow } from '../stores/store.js'

/** A stored message as clients see it. */
export function presentMessage(row: MessageRow): Message {
  const message: Message = {
    id: row.id,
    chatId: row.chatId,
    seq: row.seq,
    role: row.role,
    content: row.content,
    status: row.status,
    createdAt: row.createdAt.toISOString(),
  }
  if (row.thinking !== undefined) message.thinking = row.thinking
  if (row.model !== undefined) message.model = row.model
  if (row.finishReason !== undefined) message.finishReason = row.finishReason
  if (row.usage !== undefined) message.usage = row.usage
  if (row.error !== undefined) message.error = row.error
  if (row.completedAt !== undefined) message.completedAt = row.completedAt.toISOString()
  return message
}

/** A reply's record as it begins, or as it waits. */
export function presentStart(
  row: MessageRow,
  waiting?: { position: number; estimatedStart?: Date },
): MessageStart {
  const start: MessageStart = { epoch: row.epoch, ...presentMessage(row) }
  if (waiting) {
    start.position = waiting.position
    if (waiting.estimatedStart) start.estimatedStart = waiting.estimatedStart.toISOString()
  }
  return start
}

/** A chat as a list shows it. */
export function presentSummary(row: ChatRow): ChatSummary {
  return {
    id: row.id,
    title: row.title,
    model: row.model,
    messageCount: row.messageCount,
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
  }
}

/** A whole chat, without its messages. */
export function presentChat(row: ChatRow): Chat {
  const chat: Chat = { user: row.userId, ...presentSummary(row) }
  if (row.system !== undefined) chat.system = row.system
  if (row.options !== undefined) chat.options = row.options
  return chat
}
