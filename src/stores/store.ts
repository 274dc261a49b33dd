import type {
  GenerationOptions,
  MessageFault,
  MessageRole,
  MessageStatus,
  Usage,
} from '../../schemas/messages.js'

/*
 * What the product keeps, and the few operations it needs on it. Every id is an ObjectId in hex,
 * made by the caller. Every method rejects with AppError STORE_UNAVAILABLE or STORAGE_FULL when the
 * database cannot do its part; nothing is then half-done that a repetition would not complete.
 */

export interface UserRow {
  id: string
  username: string
  email: string
  passwordHash: string
  createdAt: Date
}

export interface SessionRow {
  id: string
  userId: string
  /** How often its refresh token was rotated; the newest token bears this number. */
  generation: number
  rotatedAt: Date
  /** When the refresh tokens before the newest were spent, as far as it still matters; the last one's last. */
  spentAt: readonly Date[]
  expiresAt: Date
}

type SessionRotation = Pick<SessionRow, 'rotatedAt' | 'spentAt' | 'expiresAt'>

export interface ChatRow {
  id: string
  userId: string
  title: string | null
  model: string | null
  system?: string
  options?: GenerationOptions
  messageCount: number
  createdAt: Date
  updatedAt: Date
}

/** New values; `null` resets a field. */
type ChatPatch = Partial<Pick<ChatRow, 'title' | 'model'>> & {
  system?: string | null | undefined
  options?: GenerationOptions | null | undefined
}

export interface MessageRow {
  id: string
  chatId: string
  userId: string
  /** The place in the chat, from 1, without gaps. */
  seq: number
  role: MessageRole
  content: string
  thinking?: string
  status: MessageStatus
  model?: string
  options?: GenerationOptions
  /** How a complete reply ended: `stop`, `length`, `tool_calls`, `empty`, or another word of Ollama's. */
  finishReason?: string
  usage?: Usage
  error?: MessageFault
  createdAt: Date
  completedAt?: Date
  /** What the request said, hashed: tells a retry from another body under the same key. */
  fingerprint?: string
  /** Which run of the reply; from 1, one more at every takeover. */
  epoch: number
  /** The offset at which the current epoch began. */
  epochStart: number
  /** How often a dead owner's reply was taken over. */
  takeovers: number
  /** The process that holds the reply, while it has not ended. */
  owner?: string
  /** Until when it holds it; set exactly while the reply has not ended. */
  leaseUntil?: Date
  /** What the model gave before a takeover, or until the last checkpoint. */
  tokens?: TokenCount
}

/** Tokens of a reply that has not ended: a line of text or thinking from the model is one. */
export interface TokenCount {
  /** Of the texts that the reply has. */
  kept: number
  /** Of runs whose texts were discarded. */
  discarded: number
}

/** What a message says. */
export type MessageText = Pick<MessageRow, 'seq' | 'role' | 'content'>

export interface NewTurn {
  /** Stored with the next two places of its chat as `seq`. */
  message: Omit<MessageRow, 'seq'>
  reply: Omit<MessageRow, 'seq'>
  /** Given to a chat that has none. */
  title: string
}

interface TurnRows {
  message: MessageRow
  reply: MessageRow
}

interface CreatedTurn extends TurnRows {
  created: true
  /** As the turn moved it. */
  chat: ChatRow
}

/** A turn that had been stored before. */
export interface FoundTurn extends TurnRows {
  /** As this call moved it, where the call that stored the turn had not come to that. */
  chat?: ChatRow
}

export type StoredTurn = CreatedTurn | (FoundTurn & { created: false })

/** What must still be so for a conditional update of a reply to happen. */
export interface ReplyCondition {
  status: readonly MessageStatus[]
  epoch?: number
  /** Undefined: whoever owns it. */
  owner?: string | null
  /** The lease that was found: its owner has not renewed it since. */
  leaseUntil?: Date
}

/** New values; `null` removes a field. */
export type ReplyChange = Partial<
  Pick<
    MessageRow,
    | 'status'
    | 'content'
    | 'epoch'
    | 'epochStart'
    | 'takeovers'
    | 'finishReason'
    | 'usage'
    | 'error'
    | 'completedAt'
  >
> & {
  thinking?: string | null
  tokens?: TokenCount | null
  owner?: string | null
  leaseUntil?: Date | null
}

/** Text that follows what is stored of a reply, from offsets in UTF-16 units on. */
export interface TextPiece {
  from: { content: number; thinking: number }
  content: string
  thinking: string
  /** How many tokens the texts have, up to the piece's end. */
  tokens: number
}

/** What came of a streaming reply since its last checkpoint. */
export interface Checkpoint extends TextPiece {
  id: string
  owner: string
  epoch: number
}

export interface AccountStore {
  /** @throws AppError USER_TAKEN when the username or email is taken, whatever its case. */
  createUser(user: UserRow): Promise<void>
  findUser(id: string): Promise<UserRow | undefined>
  /** By username or by email, whatever its case. */
  findUserByLogin(login: { username: string } | { email: string }): Promise<UserRow | undefined>
  /**
   * Removes the user with all sessions, chats and messages. What is added for the user afterwards
   * stays: who adds a session or a chat sees afterwards that the user is still there. A deletion
   * that fails after it was begun leaves nothing to be read, and is finished by itself.
   * @returns whether there was one.
   */
  deleteUser(id: string): Promise<boolean>

  createSession(session: SessionRow): Promise<void>
  findSession(id: string): Promise<SessionRow | undefined>
  /** Moves a session from `generation` to the next; false when it was not at `generation`. */
  rotateSession(id: string, generation: number, rotation: SessionRotation): Promise<boolean>
  /** Which of these sessions are there and have not expired at `now`. */
  findLiveSessions(ids: readonly string[], now: Date): Promise<string[]>
  /** Whether there was one. */
  deleteSession(id: string): Promise<boolean>
  /** @returns the ids of the user's sessions, which are gone. */
  deleteSessionsOf(userId: string): Promise<string[]>
  deleteExpiredSessions(now: Date): Promise<void>
}

export interface ChatStore {
  createChat(chat: ChatRow): Promise<void>
  findChat(userId: string, chatId: string): Promise<ChatRow | undefined>
  /** Newest activity first, by (updatedAt, id); `after` is the last row of the page before. */
  listChats(
    userId: string,
    limit: number,
    after?: { updatedAt: Date; id: string },
  ): Promise<ChatRow[]>
  countChats(userId: string): Promise<number>
  /** The chat as it then is; undefined when there is none. */
  updateChat(
    userId: string,
    chatId: string,
    patch: ChatPatch,
    now: Date,
  ): Promise<ChatRow | undefined>
  /**
   * Removes the chat and all of its messages; no message can be stored in it any more. A deletion
   * that fails after it was begun leaves nothing to be read, and is finished by itself.
   */
  deleteChat(userId: string, chatId: string): Promise<boolean>
}

export interface MessageStore {
  /**
   * Stores a user's message and its reply's record, and moves the chat's messageCount, updatedAt
   * and, where it has none, title. A message whose id is stored already is answered with what is
   * stored, and a missing reply is added.
   * @throws AppError CHAT_NOT_FOUND, or IDEMPOTENCY_KEY_REUSED when the fingerprint differs.
   */
  appendTurn(turn: NewTurn): Promise<StoredTurn>
  /** One message of a user's chat. */
  findMessage(userId: string, chatId: string, messageId: string): Promise<MessageRow | undefined>
  /** A message and the reply after it, by the message's id, whichever chat of the user they are in. */
  findTurn(userId: string, messageId: string): Promise<FoundTurn | undefined>
  /** The newest `limit` messages with a seq below `before` (all when undefined), in order of seq. */
  listMessages(chatId: string, limit: number, before?: number): Promise<MessageRow[]>
  /** What the newest `limit` messages with a seq below `before` say, in order of seq. */
  listTexts(chatId: string, limit: number, before: number): Promise<MessageText[]>
  /** The replies of a chat that have not ended, in order of seq. */
  listActiveReplies(chatId: string): Promise<MessageRow[]>
  /** The replies of all of a user's chats that have not ended. */
  listActiveRepliesOf(userId: string): Promise<MessageRow[]>

  /**
   * The one way by which a reply changes hands or ends: applies `change` if `condition` still holds.
   * @returns the row as it then is, or undefined when the condition did not hold.
   */
  updateReply(
    id: string,
    condition: ReplyCondition,
    change: ReplyChange,
  ): Promise<MessageRow | undefined>
  /**
   * Appends to the texts of many streaming replies, each only if owner, epoch and status
   * `streaming` still hold. It costs what the pieces have, however long the texts are. A piece that
   * may have been stored is given again, or a longer one, from the same offsets.
   * @returns the ids of the replies that are no longer held.
   */
  checkpoint(checkpoints: readonly Checkpoint[]): Promise<string[]>
  /**
   * Extends the leases of these replies of `owner` until `until`; none gets shorter.
   * @returns the ids of those that `owner` does not hold any more.
   */
  renewLeases(owner: string, ids: readonly string[], until: Date): Promise<string[]>
  /** Replies not ended whose lease is over at `now`, the oldest first. */
  findLapsedReplies(now: Date, limit: number): Promise<MessageRow[]>
  /** The end of the lease that ends first, over or not; undefined where every reply has ended. */
  firstLeaseEnd(): Promise<Date | undefined>
}

/** What the product must not lose. Each database implements the three parts in files of their names. */
export interface Store extends AccountStore, ChatStore, MessageStore {
  /** Resolves when the database answers. */
  ping(): Promise<void>
  close(): Promise<void>
  /** Finishes the deletions that a process which is gone had begun. */
  finishDeletions(): Promise<void>
}
