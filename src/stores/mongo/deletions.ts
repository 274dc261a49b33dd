import type { Collections } from './collections.js'

const retryMs = { first: 1000, longest: 30_000 }

/**
 * Deletions of users and chats. A record is marked first, so that nobody finds it any more, and is
 * removed after all that belongs to it; a deletion that was cut in between is finished later, by
 * whichever server finds the mark.
 */
export class Deletions {
  #timer: NodeJS.Timeout | undefined
  #retryMs = retryMs.first
  #closed = false

  constructor(private readonly collections: Collections) {}

  /** @returns whether there was such a user, whose deletion this call finished. */
  deleteUser(id: string): Promise<boolean> {
    return this.#orLater(async () => {
      const { matchedCount } = await this.collections.users.updateOne(
        { _id: id },
        // With spaces, they are no keys of anybody.
        { $set: { deleting: true, usernameKey: `deleted ${id}`, emailKey: `deleted ${id}` } },
      )
      return matchedCount > 0 && this.#finishUser(id)
    })
  }

  /** @returns whether there was such a chat, whose deletion this call finished. */
  deleteChat(userId: string, chatId: string): Promise<boolean> {
    return this.#orLater(async () => {
      const { chats } = this.collections
      const { matchedCount } = await chats.updateOne(
        { _id: chatId, userId },
        { $set: { deletedFrom: userId }, $unset: { userId: '' } },
      )
      if (matchedCount === 0) {
        // One that an earlier call began to delete is finished by this one.
        const begun = { _id: chatId, deletedFrom: userId }
        if (!(await chats.findOne(begun, { projection: { _id: 1 } }))) return false
      }
      return this.#finishChat(chatId)
    })
  }

  /** Finishes every deletion that was begun. */
  async finish(): Promise<void> {
    const { users, chats } = this.collections
    const ofUsers = users.find({ deleting: true }).project<{ _id: string }>({ _id: 1 })
    for await (const { _id } of ofUsers) await this.#finishUser(_id)
    const ofChats = chats.find({ deletedFrom: { $exists: true } })
    for await (const { _id } of ofChats.project<{ _id: string }>({ _id: 1 })) {
      await this.#finishChat(_id)
    }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  /** A deletion that fails may have been begun: it is finished as soon as the server answers. */
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
        this.#retryMs = retryMs.first
      } catch {
        // Every call that meets this server tells of it.
        this.#timer = undefined
        this.#retryMs = Math.min(this.#retryMs * 2, retryMs.longest)
        this.#finishLater()
      }
    }, this.#retryMs).unref()
  }

  async #finishUser(id: string): Promise<boolean> {
    const { users, sessions, chats } = this.collections
    await sessions.deleteMany({ userId: id })
    await chats.updateMany({ userId: id }, { $set: { deletedFrom: id }, $unset: { userId: '' } })
    const begun = chats.find({ deletedFrom: id })
    for await (const { _id } of begun.project<{ _id: string }>({ _id: 1 })) {
      await this.#finishChat(_id)
    }
    const { deletedCount } = await users.deleteOne({ _id: id })
    return deletedCount > 0
  }

  async #finishChat(chatId: string): Promise<boolean> {
    const { chats, messages } = this.collections
    await messages.deleteMany({ chatId })
    const { deletedCount } = await chats.deleteOne({ _id: chatId })
    return deletedCount > 0
  }
}
