import type {
  GenerationOptions,
  MessageFault,
  MessageRole,
  MessageStatus,
  Usage,
} from '../../../schemas/messages.js'
import type { MessageRow, TokenCount } from '../store.js'

/** What of a message never changes. */
const givenColumns =
  'id, chat_id, user_id, seq, role, model, options, created_at, fingerprint' as const

/** What a reply's run changes. */
export const stateColumns = `status, content, thinking, finish_reason, usage, error, completed_at,
  epoch, epoch_start, takeovers, owner, lease_until, tokens` as const

const marks = (columns: string) => columns.replace(/\w+/g, '?')

export const givenMarks = marks(givenColumns)
export const stateMarks = marks(stateColumns)

export const messageColumns = `${givenColumns}, ${stateColumns}` as const

/** A message as one JSON array, in the order of `messageColumns`. */
export const messageJson = `json_array(${messageColumns.replace(
  /\b(options|usage|error|tokens)\b/g,
  'json($1)',
)})`

export type MessageCells = [
  id: string,
  chatId: string,
  userId: string,
  seq: number,
  role: MessageRole,
  model: string | null,
  options: GenerationOptions | null,
  createdAt: number,
  fingerprint: string | null,
  status: MessageStatus,
  content: string,
  thinking: string | null,
  finishReason: string | null,
  usage: Usage | null,
  error: MessageFault | null,
  completedAt: number | null,
  epoch: number,
  epochStart: number,
  takeovers: number,
  owner: string | null,
  leaseUntil: number | null,
  tokens: TokenCount | null,
]

export function messageOf([
  id,
  chatId,
  userId,
  seq,
  role,
  model,
  options,
  createdAt,
  fingerprint,
  status,
  content,
  thinking,
  finishReason,
  usage,
  error,
  completedAt,
  epoch,
  epochStart,
  takeovers,
  owner,
  leaseUntil,
  tokens,
]: MessageCells): MessageRow {
  return {
    id,
    chatId,
    userId,
    seq,
    role,
    content,
    ...(thinking !== null && { thinking }),
    status,
    ...(model !== null && { model }),
    ...(options !== null && { options }),
    ...(finishReason !== null && { finishReason }),
    ...(usage !== null && { usage }),
    ...(error !== null && { error }),
    createdAt: new Date(createdAt),
    ...(completedAt !== null && { completedAt: new Date(completedAt) }),
    ...(fingerprint !== null && { fingerprint }),
    epoch,
    epochStart,
    takeovers,
    ...(owner !== null && { owner }),
    ...(leaseUntil !== null && { leaseUntil: new Date(leaseUntil) }),
    ...(tokens !== null && { tokens }),
  }
}

const json = (value: object | undefined) => (value ? JSON.stringify(value) : null)

/** The values of `givenColumns`. */
export function givenOf(message: MessageRow) {
  return [
    message.id,
    message.chatId,
    message.userId,
    message.seq,
    message.role,
    message.model ?? null,
    json(message.options),
    message.createdAt.getTime(),
    message.fingerprint ?? null,
  ] as const
}

/** The values of `stateColumns`. */
export function stateOf(message: MessageRow) {
  return [
    message.status,
    message.content,
    message.thinking ?? null,
    message.finishReason ?? null,
    json(message.usage),
    json(message.error),
    message.completedAt?.getTime() ?? null,
    message.epoch,
    message.epochStart,
    message.takeovers,
    message.owner ?? null,
    message.leaseUntil?.getTime() ?? null,
    json(message.tokens),
  ] as const
}
