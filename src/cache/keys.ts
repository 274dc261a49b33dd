/** Every cache key, with its lifetime in milliseconds. */
const prefix = 'chat'

const minute = 60_000

/** The first page of a user's chats, of the usual size. */
export const chatListKey = (userId: string) => ({ key: `${prefix}:chats:${userId}`, ttlMs: minute })

/** A rate limit's counter; it lives as long as its window. */
export const limitKey = (limit: string, subject: string) => `${prefix}:limit:${limit}:${subject}`

/** News of sessions that ended, to close what they hold open. */
export const sessionsChannel = `${prefix}:sessions-ended`

/** A deterministic request's reply. */
export const deterministicReplyKey = (request: string) => ({
  key: `${prefix}:reply:${request}`,
  ttlMs: 24 * 60 * minute,
})
