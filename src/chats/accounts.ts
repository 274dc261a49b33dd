import type { SessionEnd } from '../../schemas/auth.js'
import type { Sessions } from '../auth/sessions.js'
import type { Cache } from '../cache/cache.js'
import { chatsState } from '../cache/keys.js'
import { forget } from '../cache/read-through.js'
import type { Generations } from '../engine/generations.js'
import type { Log } from '../logging.js'
import { forgetReplies } from '../prompt/deterministic.js'
import type { Store } from '../stores/store.js'

interface Parts {
  store: Pick<Store, 'deleteUser'>
  cache: Cache
  sessions: Pick<Sessions, 'confirm' | 'logoutEverywhere'>
  generations: Generations
  log: Log
}

/** Logging a user out everywhere, and deleting the account. */
export class Accounts {
  constructor(private readonly parts: Parts) {}

  /** Ends every session of the user, closes their sockets, and stops the running replies. */
  async logoutEverywhere(
    userId: string,
    network: string,
    code: SessionEnd = 'LOGGED_OUT',
  ): Promise<void> {
    await this.parts.sessions.logoutEverywhere(userId, code, network)
    await this.parts.generations.stopping.stopUser(userId)
  }

  /**
   * Stops the running replies, then removes the account with its sessions, chats and messages.
   * @throws AppError as Sessions.confirm, for a wrong password.
   */
  async delete(userId: string, password: string, network: string): Promise<void> {
    await this.parts.sessions.confirm(userId, password, network)
    await this.logoutEverywhere(userId, network, 'ACCOUNT_DELETED')
    try {
      await this.parts.store.deleteUser(userId)
    } finally {
      // A deletion that failed may have removed some.
      await forget(this.parts.cache, chatsState(userId))
      await forgetReplies(this.parts.cache, userId)
      this.parts.generations.dropUser(userId)
    }
    this.parts.log.info({ event: 'account-deleted', userId, network }, 'an account was deleted')
  }
}
