import { signal } from '@preact/signals'
import type { ChatClient, LoginInput, RegisterInput, User } from '../../client/index.js'

/** Who is signed in, and why nobody is. */
export class SessionStore {
  readonly state = signal<'starting' | 'in' | 'out'>('starting')
  readonly userId = signal<string>()
  readonly user = signal<User>()
  /** The code of a session's end that was not asked for here. */
  readonly ended = signal<string>()
  readonly #client: ChatClient
  #isLeaving = false

  constructor(client: ChatClient) {
    this.#client = client
    client.on('signed-in', ({ userId }) => this.#enter(userId))
    client.on('signed-out', ({ code }) => {
      this.ended.value = this.#isLeaving ? undefined : code
      this.user.value = undefined
      this.state.value = 'out'
    })
    client.on('connection', ({ status }) => {
      if (status === 'online' && !this.user.value) void this.#readProfile()
    })
  }

  async start(): Promise<void> {
    const userId = await this.#client.userId()
    if (userId === undefined) this.state.value = 'out'
    else this.#enter(userId)
  }

  async register(input: RegisterInput): Promise<void> {
    this.user.value = await this.#client.register(input)
  }

  async logIn(input: LoginInput): Promise<void> {
    this.user.value = await this.#client.logIn(input)
  }

  logOut(): Promise<void> {
    return this.#leave(() => this.#client.logOut())
  }

  logOutEverywhere(): Promise<void> {
    return this.#leave(() => this.#client.logOutEverywhere())
  }

  deleteAccount(password: string): Promise<void> {
    return this.#leave(() => this.#client.deleteAccount(password))
  }

  async #leave(leave: () => Promise<void>): Promise<void> {
    this.#isLeaving = true
    try {
      await leave()
    } finally {
      this.#isLeaving = false
    }
  }

  #enter(userId: string): void {
    this.userId.value = userId
    this.ended.value = undefined
    this.state.value = 'in'
    // It rejects only when the session has ended meanwhile, which is told as `signed-out`.
    this.#client.connect().catch(() => {})
    void this.#readProfile()
  }

  async #readProfile(): Promise<void> {
    try {
      this.user.value = await this.#client.rest.profile()
    } catch {
      // Read again when the connection is back; the session's end is told as `signed-out`.
    }
  }
}
