/** Every cache key, with its lifetime in milliseconds. */
const prefix = 'chat'

const minute = 60_000

/** The state of all of a user's chats. */
export const chatsState = (userId: string) => ({
  key: `${prefix}:chats-state:${userId}`,
  ttlMs: 60 * minute,
})

/** The first page of a user's chats. */
export const chatListKey = (userId: string, limit: number) => ({
  state: chatsState(userId),
  key: `${prefix}:chats:${userId}:${limit}`,
  ttlMs: minute,
})

/** A chat with the newest page of its messages, as its owner reads it. */
export const chatPageKey = (userId: string, chatId: string, limit: number) => ({
  state: chatsState(userId),
  key: `${prefix}:messages:${userId}:${chatId}:${limit}`,
  ttlMs: minute,
})

/** A rate limit's counter; it lives as long as its window. */
export const limitKey = (limit: string, subject: string) => `${prefix}:limit:${limit}:${subject}`

/** Which limit a key is of; empty for keys of other kinds. */
export const limitOf = (key: string): string => {
  const [, kind, limit = ''] = key.split(':', 3)
  return kind === 'limit' ? limit : ''
}

/** That a network has logged in to an account. */
export const knownNetworkKey = (userId: string, network: string) => ({
  key: `${prefix}:known-network:${userId}:${network}`,
  ttlMs: 30 * 24 * 60 * minute,
})

/** Why a session ended; lives as long as an access token of it may. */
export const sessionEndKey = (sessionId: string) => `${prefix}:session-end:${sessionId}`

/** News of sessions that ended, to close what they hold open. */
export const sessionsChannel = `${prefix}:sessions-ended`

/** How many deterministic replies are kept of a user: few, since an account's deletion removes each. */
export const deterministicReplies = 64

/** A user's deterministic reply, at one of so many places. */
export const deterministicReplyKey = (userId: string, place: number) => ({
  key: `${prefix}:reply:${userId}:${place}`,
  ttlMs: 24 * 60 * minute,
})

/** A number that was learnt of a model. */
export const learntKey = (what: string, model: string) => ({
  key: `${prefix}:learnt:${what}:${model}`,
  ttlMs: 30 * 24 * 60 * minute,
})

/** The call of a model that Ollama served last, among all servers. */
export const servedCallKey = (model: string) => `${prefix}:served-call:${model}`

/** What servers tell each other: of a chat, of a user's chats, of a reply's text, and all of them. */
export const chatChannel = (chatId: string) => `${prefix}:chat:${chatId}`
export const userChannel = (userId: string) => `${prefix}:user:${userId}`
export const replyChannel = (messageId: string) => `${prefix}:frames:${messageId}`
export const serversChannel = `${prefix}:servers`

/** How far back, in milliseconds, a server that did not hear wants to be told again. */
export const missedNewsChannel = `${prefix}:missed-news`

/** Keys that a server could not delete: nobody believes what is under them until it is deleted. */
export const lostDeletionsChannel = `${prefix}:lost-deletions`

/**
 * The stream log of one run of a reply, whose life is renewed while it is written; once it has ended
 * it only keeps a late owner out.
 */
export const streamLogKey = (messageId: string, epoch: number) => ({
  key: `${prefix}:s:{${messageId}}:${epoch}`,
  ttlMs: 30 * minute,
  endedTtlMs: minute,
})

/** Who is served at Ollama and who waits, among all servers; in one slot, for one script. */
export const slotKeys = {
  running: `${prefix}:{slots}:running`,
  wanting: `${prefix}:{slots}:wanting`,
  served: `${prefix}:{slots}:served`,
  waiting: `${prefix}:{slots}:waiting`,
  waitingOf: (userId: string) => `${prefix}:{slots}:waiting:${userId}`,
}
