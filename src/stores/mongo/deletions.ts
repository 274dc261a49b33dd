import type { ObjectId } from 'mongodb'
import { Backoff } from '../../retry.js'
import type { Collections } from './collections.js'
import { documentOf, objectId } from './documents.js'

/** Between tries to finish a deletion, in milliseconds. */
const retryPauses = { first: 1000, longest: 30_000 }

/**
 * Deletes users and chats. A document is marked first, which hides it from every query, and removed
 * after all that belongs to it. Any server that finds the mark finishes an interrupted deletion.
 */
export class Deletions {
  #timer: NodeJS.Timeout | undefined
  readonly #pauses = new Backoff(retryPauses)
  #closed = false

  constructor(private readonly collections: Collections) {}

  /** @returns whether there was such a user, and this call removed it. */
  deleteUser(id: string): Promise<boolean> {
    return this.#orLater(async () => {
      // Login keys contain no spaces.
      const keys = { usernameKey: `deleted ${id}`, emailKey: `deleted ${id}` }
      const { matchedCount } = await this.collections.users.updateOne(documentOf({ id }), {
        $set: { deleting: true, ...keys },
      })
      return matchedCount > 0 && this.#finishUser(objectId(id))
    })
  }

  /** @returns whether there was such a chat, and this call removed it. */
  deleteChat(userId: string, chatId: string): Promise<boolean> {
    return this.#orLater(async () => {
      const { chats } = this.collections
      const [_id, user] = [objectId(chatId), objectId(userId)]
      const { matchedCount } = await chats.updateOne({ _id, user }, markDeleted(user))
      if (matchedCount === 0) {
        // An earlier call may have marked it.
        const marked = { _id, deletedFrom: user }
        if (!(await chats.findOne(marked, { projection: { _id: 1 } }))) return false
      }
      return this.#finishChat(_id)
    })
  }

  /** Finishes every deletion that was begun. */
  async finish(): Promise<void> {
    const { users, chats } = this.collections
    const ofUsers = users.find({ deleting: true }, { projection: { _id: 1 } })
    for await (const { _id } of ofUsers) await this.#finishUser(_id)
    const ofChats = chats.find({ deletedFrom: { $exists: true } }, { projection: { _id: 1 } })
    for await (const { _id } of ofChats) await this.#finishChat(_id)
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  /** A deletion that fails may have been begun: it is retried in the background. */
  async #orLater(deletion: () => Promise<boolean>): Promise<boolean> {
    try {
      return await deletion()
    } catch (error) {
      this.#finishLater()
      throw error
    }
  }

  #finishLater(): void {
    if (this.#closed) return
    this.#timer ??= setTimeout(async () => {
      try {
        await this.finish()
        this.#timer = undefined
        this.#pauses.reset()
      } catch {
        // Not logged here: every request that needs MongoDB logs that it is away.
        this.#timer = undefined
        this.#finishLater()
      }
    }, this.#pauses.next()).unref()
  }

  async #finishUser(user: ObjectId): Promise<boolean> {
    const { users, sessions, chats } = this.collections
    await sessions.deleteMany({ user })
    await chats.updateMany({ user }, markDeleted(user))
    const marked = chats.find({ deletedFrom: user }, { projection: { _id: 1 } })
    for await (const { _id } of marked) await this.#finishChat(_id)
    const { deletedCount } = await users.deleteOne({ _id: user })
    return deletedCount > 0
  }

  async #finishChat(chat: ObjectId): Promise<boolean> {
    const { chats, messages } = this.collections
    await messages.deleteMany({ chat })
    const { deletedCount } = await chats.deleteOne({ _id: chat })
    return deletedCount > 0
  }
}

const markDeleted = (user: ObjectId) =>
  ({ $set: { deletedFrom: user }, $unset: { user: '' } }) as const
