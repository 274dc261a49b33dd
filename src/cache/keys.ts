/*
 * The one table of what this product keeps in Redis, or in its own memory, and the channels on which
 * its servers talk. Every key ends by itself; the last column says who takes it away or overwrites it
 * before that.
 */

const prefix = 'chat'
const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

interface KeyRow {
  /** The key, with `*` for what varies. */
  pattern: string
  /** In milliseconds; or the settings that say it. */
  life: number | string
  invalidatedBy: string
}

const rows: KeyRow[] = []

/** Every kind of key, for the test that looks into Redis and for docs/architecture.md. */
export const keyTable: readonly KeyRow[] = rows

type Name<Parts extends (string | number)[]> = (...parts: Parts) => string

/** Enters a row. @returns what makes its keys. */
function row<Parts extends (string | number)[]>(
  name: Name<Parts>,
  life: number | string,
  invalidatedBy: string,
): Name<Parts> {
  const keyOf: Name<Parts> = (...parts) => `${prefix}:${name(...parts)}`
  const wildcards = new Array(name.length).fill('*')
  rows.push({ pattern: keyOf(...(wildcards as Parts)), life, invalidatedBy })
  return keyOf
}

/** Enters a row of keys whose life is always the same. @returns what makes each with its life. */
function lasting<Parts extends (string | number)[]>(
  name: Name<Parts>,
  ttlMs: number,
  invalidatedBy: string,
) {
  const keyOf = row(name, ttlMs, invalidatedBy)
  return (...parts: Parts) => ({ key: keyOf(...parts), ttlMs })
}

/** The user of a live session, or the code of its end: a tombstone, which no copy overwrites. */
export const sessionKey = lasting(
  (sessionId: string) => `session:${sessionId}`,
  minute,
  'the session’s end (logout, reuse, deletion): its code stays for JWT_EXPIRES_IN and a minute',
)

/** While it is there, copies of the user's sessions are not believed and the store is asked. */
export const sessionsEndingKey = lasting(
  (userId: string) => `sessions-ending:${userId}`,
  2 * minute,
  'the server that ended the sessions, once their tombstones are written',
)

/** The name of the state of all of a user's chats; a cached page is good under that name alone. */
export const chatsState = lasting(
  (userId: string) => `chats-state:${userId}`,
  hour,
  'every write to a chat or a message of the user, and the account’s deletion',
)

const chatList = lasting(
  (userId: string, limit: number) => `chats:${userId}:${limit}`,
  minute,
  'the state’s next name',
)

/** The first page of a user's chats. */
export const chatListKey = (userId: string, limit: number) => ({
  state: chatsState(userId),
  ...chatList(userId, limit),
})

const chatPage = lasting(
  (userId: string, chatId: string, limit: number) => `messages:${userId}:${chatId}:${limit}`,
  minute,
  'the state’s next name',
)

/** A chat with the newest page of its messages, as its owner reads it. */
export const chatPageKey = (userId: string, chatId: string, limit: number) => ({
  state: chatsState(userId),
  ...chatPage(userId, chatId, limit),
})

const models = lasting(
  (ollama: string) => `models:list:${ollama}`,
  5 * minute,
  'the server that asks Ollama again, when the list is wanted and five seconds old',
)
const modelsLock = lasting(
  (ollama: string) => `models:lock:${ollama}`,
  5000,
  'its holder, when it has the list',
)

/** The models of an Ollama with what it tells of each. The server that asks for them holds the lock. */
export const modelsKey = (ollama: string) => ({ ...models(ollama), lock: modelsLock(ollama) })

const deterministicReply = lasting(
  (userId: string, place: number) => `reply:${userId}:${place}`,
  day,
  'another reply of the same place, and the account’s deletion',
)

/** How many deterministic replies are kept of a user: few, since an account's deletion removes each. */
export const deterministicReplies = 64

/** A user's deterministic reply, at one of so many places. */
export const deterministicReplyKey = deterministicReply

/** A number that was learnt of a model. */
export const learntKey = lasting(
  (what: string, model: string) => `learnt:${what}:${model}`,
  30 * day,
  'a value that differs by more than 5 %',
)

/** The call of a model that Ollama served last, among all servers. */
export const servedCallKey = row(
  (model: string) => `served-call:${model}`,
  'OLLAMA_LOAD_TIMEOUT_MS and OLLAMA_FIRST_TOKEN_TIMEOUT_MS',
  'the model’s next call',
)

/** That a network has logged in to an account. */
export const knownNetworkKey = lasting(
  (userId: string, network: string) => `known-network:${userId}:${network}`,
  30 * day,
  'nobody; each login begins its life anew',
)

/** A counter of a limit, or of what a user has open. It lives as long as its window. */
export const limitKey = row(
  (limit: string, subject: string) => `limit:${limit}:${subject}`,
  hour,
  'a right password ends a count of wrong ones',
)

/** The limit that a key counts for; empty for keys of other kinds. */
export const limitOf = (key: string): string => {
  const [, kind, limit = ''] = key.split(':', 3)
  return kind === 'limit' ? limit : ''
}

const streamLog = lasting(
  (messageId: string, epoch: number) => `s:{${messageId}}:${epoch}`,
  30 * minute,
  'the reply’s end closes it, and leaves it a minute',
)

/** The stream log of one run of a reply. Once closed it only keeps a late owner out. */
export const streamLogKey = (messageId: string, epoch: number) => ({
  ...streamLog(messageId, epoch),
  endedTtlMs: minute,
})

/** The users that Ollama serves, and those that wait, of all servers; in one hash slot, for one script. */
export const slotKeys = {
  running: row(() => '{slots}:running', 'LEASE_MS', 'a reply’s end frees its slot')(),
  wanting: row(() => '{slots}:wanting', 1000, 'a slot that is given removes the user')(),
  served: row(() => '{slots}:served', hour, 'the user’s next slot')(),
  waiting: row(() => '{slots}:waiting', 'LEASE_MS', 'each server renews its count')(),
  waitingOf: row(
    (userId: string) => `{slots}:waiting:${userId}`,
    'LEASE_MS',
    'each server renews its count',
  ),
}

/** Channels between servers: of a chat, of a user's chats, of a reply's text, and one of all servers. */
export const chatChannel = (chatId: string) => `${prefix}:chat:${chatId}`
export const userChannel = (userId: string) => `${prefix}:user:${userId}`
export const replyChannel = (messageId: string) => `${prefix}:frames:${messageId}`
export const serversChannel = `${prefix}:servers`

/** Sessions that ended, so that what they hold open is closed. */
export const sessionsChannel = `${prefix}:sessions-ended`

/** How many milliseconds back a server that did not hear wants to be told again. */
export const missedNewsChannel = `${prefix}:missed-news`

/** Keys that a server could not delete: no server believes them until they are deleted. */
export const lostDeletionsChannel = `${prefix}:lost-deletions`
