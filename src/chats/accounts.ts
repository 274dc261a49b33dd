import type { SessionEnd } from '../../schemas/auth.js'
import type { Log } from '../auth/lockout.js'
import type { Sessions } from '../auth/sessions.js'
import type { Cache } from '../cache/cache.js'
import { chatsState } from '../cache/keys.js'
import { forget } from '../cache/read-through.js'
import type { Stopping } from '../engine/stopping.js'
import { forgetReplies } from '../prompt/deterministic.js'
import type { Store } from '../stores/store.js'

interface Generations {
  stopping: Pick<Stopping, 'stopUser'>
  dropUser(userId: string): void
}

/** What ends on all of a user's devices at once. */
export class Accounts {
  constructor(
    private readonly store: Pick<Store, 'deleteUser'>,
    private readonly cache: Cache,
    private readonly sessions: Pick<Sessions, 'confirm' | 'logoutEverywhere'>,
    private readonly generations: Generations,
    private readonly log: Pick<Log, 'info'>,
  ) {}

  /** Ends every session, closes their sockets, and stops what runs. */
  async logoutEverywhere(
    userId: string,
    network: string,
    code: SessionEnd = 'LOGGED_OUT',
  ): Promise<void> {
    await this.sessions.logoutEverywhere(userId, code, network)
    await this.generations.stopping.stopUser(userId)
  }

  /**
   * Removes the account with its sessions, chats and messages, after all that runs is stopped.
   * @throws AppError as Sessions.confirm, for a wrong password.
   */
  async delete(userId: string, password: string, network: string): Promise<void> {
    await this.sessions.confirm(userId, password, network)
    await this.logoutEverywhere(userId, network, 'ACCOUNT_DELETED')
    try {
      await this.store.deleteUser(userId)
    } finally {
      // A deletion that fails may have been begun.
      await forget(this.cache, chatsState(userId))
      await forgetReplies(this.cache, userId)
      this.generations.dropUser(userId)
    }
    this.log.info({ event: 'account-deleted', userId, network }, 'an account was deleted')
  }
}
