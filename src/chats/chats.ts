import { setTimeout as delay } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import type {
  Chat,
  ChatInput,
  ChatList,
  ChatPatch,
  ChatWithMessages,
  MessageList,
} from '../../schemas/chats.js'
import type { Message } from '../../schemas/messages.js'
import type { Cache } from '../cache/cache.js'
import { chatListKey, chatPageKey, chatsState, limitKey } from '../cache/keys.js'
import { forget, readThrough } from '../cache/read-through.js'
import type { SendInput } from '../engine/accept.js'
import type { Generations } from '../engine/generations.js'
import { AppError } from '../errors.js'
import { newId } from '../ids.js'
import type { ModelCatalogue } from '../ollama/catalogue.js'
import { oneAtATime } from '../one-at-a-time.js'
import { assertWithinLimits, type OptionLimits } from '../prompt/option-limits.js'
import type { ChatEvents } from '../reply/chat-events.js'
import { hasEnded } from '../reply/live-reply.js'
import { presentChat, presentMessage, presentSummary } from '../reply/present.js'
import type { ChatRow, Store, StoredTurn } from '../stores/store.js'
import type { Cursors } from './cursors.js'

/** How long a deletion whose answer was lost is looked for, in milliseconds. */
const maybeDeletedMs = 60_000
/** How often the store is then asked whether the chat is gone, in milliseconds. */
const lookEveryMs = 1000
const hourMs = 60 * 60_000

interface Page {
  limit: number
  cursor?: string | undefined
}

interface Parts {
  store: Store
  cache: Cache
  cursors: Cursors
  chatEvents: ChatEvents
  generations: Generations
  catalogue: Pick<ModelCatalogue, 'findKnown'>
  limits: OptionLimits
  /** How many chats a user keeps at most. */
  maxChats: number
}

/** A user's chats. Those of others are answered as if they did not exist. */
export class Chats {
  readonly #deleting = oneAtATime('STORE_UNAVAILABLE')
  /** Chats whose deletion the store never confirmed, and whether it was told since. */
  readonly #maybeDeleted = new LRUCache<string, 'untold' | 'told'>({
    max: 1000,
    ttl: maybeDeletedMs,
  })

  constructor(private readonly parts: Parts) {}

  /**
   * @throws AppError UNAUTHORIZED when the account is gone; RATE_LIMITED when it has too many chats;
   *   MODEL_NOT_FOUND, MODEL_CANNOT, MODELS_UNKNOWN or VALIDATION_FAILED of its model and options.
   */
  async create(userId: string, input: ChatInput): Promise<Chat> {
    await this.#check(input, async () => null)
    await this.#assertRoom(userId)
    const now = new Date()
    const row: ChatRow = {
      id: newId(),
      userId,
      title: input.title ?? null,
      model: input.model ?? null,
      ...(input.system !== undefined && { system: input.system }),
      ...(input.options !== undefined && { options: input.options }),
      messageCount: 0,
      createdAt: now,
      updatedAt: now,
    }
    await this.#changing(userId, async () => {
      await this.parts.store.createChat(row)
      // The account may have been deleted meanwhile, without this chat.
      if (await this.parts.store.findUser(userId)) return
      await this.parts.store.deleteChat(userId, row.id)
      throw new AppError('UNAUTHORIZED')
    })
    const chat = presentChat(row)
    this.parts.chatEvents.toUser(userId, 'chat-created', { chat })
    return chat
  }

  /**
   * One page, newest activity first; the first page as JSON, which is cached.
   * @throws AppError BAD_CURSOR.
   */
  async list(userId: string, { limit, cursor }: Page): Promise<ChatList | Buffer> {
    const read = () => this.#readList(userId, limit, cursor)
    if (cursor !== undefined) return read()
    return readThrough(this.parts.cache, chatListKey(userId, limit), async () => ({
      value: await read(),
      lasts: true,
    }))
  }

  /**
   * A chat and a page of its messages; the page of the newest as JSON, which is cached unless a
   * reply on it has not ended.
   * @throws AppError CHAT_NOT_FOUND, BAD_CURSOR.
   */
  async read(
    userId: string,
    chatId: string,
    { limit, cursor }: Page,
  ): Promise<ChatWithMessages | Buffer> {
    const read = () => this.#readChat(userId, chatId, limit, cursor)
    if (cursor !== undefined) return read()
    return readThrough(this.parts.cache, chatPageKey(userId, chatId, limit), async () => {
      const value = await read()
      return { value, lasts: value.messages.every(hasEnded) }
    })
  }

  /** A page of a chat's messages, in order; the newest are the first page. @throws as `read`. */
  async listMessages(
    userId: string,
    chatId: string,
    { limit, cursor }: Page,
  ): Promise<MessageList> {
    await this.find(userId, chatId)
    return this.#readMessages(chatId, limit, cursor)
  }

  /** One message; a running reply with its text so far. @throws AppError MESSAGE_NOT_FOUND. */
  async readMessage(userId: string, chatId: string, messageId: string): Promise<Message> {
    return presentMessage(await this.parts.generations.reader.read(userId, chatId, messageId))
  }

  /** @throws AppError CHAT_NOT_FOUND, and of its model and options as `create`. */
  async update(userId: string, chatId: string, patch: ChatPatch): Promise<Chat> {
    await this.#check(patch, async () => (await this.find(userId, chatId)).model)
    const row = await this.#changing(userId, () =>
      this.parts.store.updateChat(userId, chatId, patch, new Date()),
    )
    if (!row) throw new AppError('CHAT_NOT_FOUND')
    const chat = presentChat(row)
    this.parts.chatEvents.toUser(userId, 'chat-updated', { chat })
    return chat
  }

  /** Sends a message and tells the user's devices that its chat has moved. @throws as Generations.send. */
  async send(input: SendInput): Promise<StoredTurn> {
    const turn = await this.#changing(input.userId, () => this.parts.generations.send(input))
    if (turn.chat) {
      this.parts.chatEvents.toUser(input.userId, 'chat-updated', { chat: presentChat(turn.chat) })
    }
    return turn
  }

  /** Stops what runs in a chat, then removes it with its messages. @throws AppError CHAT_NOT_FOUND. */
  delete(userId: string, chatId: string): Promise<void> {
    // One after the other, so that no call takes another's deletion for its own.
    return this.#deleting([`${userId}:${chatId}`], () => this.#delete(userId, chatId))
  }

  /**
   * Counts a chat that is about to be created. The store is asked once an hour; in between the cache
   * counts. A chat that then cannot be created counts until the hour is over.
   * @throws AppError RATE_LIMITED.
   */
  async #assertRoom(userId: string): Promise<void> {
    const { maxChats } = this.parts
    if (!Number.isFinite(maxChats)) return
    let count = await this.#count(userId, 1)
    if (count <= 1) count = await this.#count(userId, await this.parts.store.countChats(userId))
    if (count <= maxChats) return
    await this.#count(userId, -1)
    throw new AppError('RATE_LIMITED', {
      message: `An account keeps at most ${maxChats} chats: delete one first.`,
      retryable: false,
    })
  }

  async #count(userId: string, chats: number): Promise<number> {
    return (await this.parts.cache.hit(limitKey('chats', userId), hourMs, chats)).count
  }

  async #delete(userId: string, chatId: string): Promise<void> {
    // A chat whose deletion was begun earlier is not found, and its deletion is finished.
    const isThere = (await this.parts.store.findChat(userId, chatId)) !== undefined
    if (isThere) await this.parts.generations.stopping.stopChat(chatId)
    const deleted = await this.#changing(userId, () => this.#deleteStored(userId, chatId, isThere))
    if (!deleted) throw new AppError('CHAT_NOT_FOUND')
    if (deleted === 'untold') await this.#tellDeleted(userId, chatId)
  }

  async #tellDeleted(userId: string, chatId: string): Promise<void> {
    this.parts.generations.dropChat(chatId)
    await this.#count(userId, -1)
    this.parts.chatEvents.toUser(userId, 'chat-deleted', { chatId })
  }

  /**
   * @returns false when neither this call nor an unconfirmed earlier one deleted the chat; else
   *   whether the user's devices have been told.
   */
  async #deleteStored(userId: string, chatId: string, isThere: boolean) {
    const key = `${userId}:${chatId}`
    try {
      const deleted = await this.parts.store.deleteChat(userId, chatId)
      const state = this.#maybeDeleted.get(key) ?? (deleted && 'untold')
      this.#maybeDeleted.delete(key)
      return state
    } catch (error) {
      if (isThere && error instanceof AppError && error.code === 'STORE_UNAVAILABLE') {
        const isLookedFor = this.#maybeDeleted.has(key)
        this.#maybeDeleted.set(key, 'untold')
        if (!isLookedFor) void this.#tellOnceDeleted(userId, chatId)
      }
      throw error
    }
  }

  /** Tells of an unconfirmed deletion once the store has done it, even if nobody asks again. */
  async #tellOnceDeleted(userId: string, chatId: string): Promise<void> {
    const key = `${userId}:${chatId}`
    const look = async () => {
      if (this.#maybeDeleted.get(key) !== 'untold') return
      if (await this.parts.store.findChat(userId, chatId)) return
      this.#maybeDeleted.set(key, 'told')
      await this.#changing(userId, () => this.#tellDeleted(userId, chatId))
    }
    while (this.#maybeDeleted.get(key) === 'untold') {
      await delay(lookEveryMs, undefined, { ref: false })
      // A failing store is asked again.
      await this.#deleting([key], look).catch(() => {})
    }
  }

  /** @throws AppError CHAT_NOT_FOUND. */
  async find(userId: string, chatId: string): Promise<ChatRow> {
    const row = await this.parts.store.findChat(userId, chatId)
    if (!row) throw new AppError('CHAT_NOT_FOUND')
    return row
  }

  /**
   * Checks that a chat may have this model and these options.
   * @param kept reads the model that the chat has so far.
   * @throws AppError MODEL_NOT_FOUND, MODEL_CANNOT, MODELS_UNKNOWN, VALIDATION_FAILED.
   */
  async #check({ model, options }: ChatPatch, kept: () => Promise<string | null>): Promise<void> {
    const found = model ? await this.parts.catalogue.findKnown(model) : undefined
    if (!options) return
    assertWithinLimits(options, this.parts.limits, found)
    if (found || options.num_ctx === undefined) return
    const name = model === undefined ? await kept() : null
    // A model that is not known now is refused when it is used.
    const own = await this.parts.catalogue.findKnown(name ?? undefined).catch(() => undefined)
    assertWithinLimits(options, this.parts.limits, own)
  }

  /** Runs a write, then invalidates the user's cached pages; also after a failure, which may be stored. */
  async #changing<T>(userId: string, write: () => Promise<T>): Promise<T> {
    try {
      return await write()
    } finally {
      await forget(this.parts.cache, chatsState(userId))
    }
  }

  async #readChat(
    userId: string,
    chatId: string,
    limit: number,
    cursor: string | undefined,
  ): Promise<ChatWithMessages> {
    const row = await this.find(userId, chatId)
    return { ...presentChat(row), ...(await this.#readMessages(chatId, limit, cursor)) }
  }

  async #readMessages(
    chatId: string,
    limit: number,
    cursor: string | undefined,
  ): Promise<MessageList> {
    const list = `messages:${chatId}`
    const before =
      cursor === undefined ? undefined : Number(this.parts.cursors.open(list, cursor)[0])
    const rows = await this.parts.store.listMessages(chatId, limit, before)
    const first = rows[0]
    const nextCursor = first && first.seq > 1 ? this.parts.cursors.seal(list, [first.seq]) : null
    return { messages: rows.map(presentMessage), nextCursor }
  }

  async #readList(userId: string, limit: number, cursor: string | undefined): Promise<ChatList> {
    const list = `chats:${userId}`
    const after = cursor === undefined ? undefined : this.parts.cursors.open(list, cursor)
    const rows = await this.parts.store.listChats(
      userId,
      limit + 1,
      after && { updatedAt: new Date(Number(after[0])), id: String(after[1]) },
    )
    const page = rows.slice(0, limit)
    const last = page.at(-1)
    const more = last && rows.length > limit
    return {
      chats: page.map(presentSummary),
      nextCursor: more ? this.parts.cursors.seal(list, [last.updatedAt.getTime(), last.id]) : null,
    }
  }
}
