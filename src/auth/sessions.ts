import type { LoginInput, RegisterInput, SignedIn, TokenPair, User } from '../../schemas/auth.js'
import type { Cache } from '../cache/cache.js'
import { sessionsChannel } from '../cache/keys.js'
import { AppError, invalid } from '../errors.js'
import { newId } from '../ids.js'
import { oneAtATime } from '../one-at-a-time.js'
import { loginKey } from '../stores/login-key.js'
import type { SessionRow, Store, UserRow } from '../stores/store.js'
import { createLiveSessions } from './live-sessions.js'
import { createLockout, type Log } from './lockout.js'
import type { Passwords } from './passwords.js'
import type { Access, Tokens } from './tokens.js'

const sessionLifeMs = 30 * 86_400_000
/** For so long a spent refresh token gives the same pair again: the answer may have been lost. */
const graceMs = 10_000
/** Emails that differ in these look alike. The schema lists those that any regular expression can name. */
const invisible = /[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]/u

interface SessionsOptions {
  store: Store
  cache: Cache
  tokens: Tokens
  passwords: Passwords
  /** After so many failed logins in five minutes a network is refused an account. */
  maxLoginFailures: number
  log: Log
  /** The clock, in milliseconds since 1970. */
  now?: () => number
}

export type Sessions = Awaited<ReturnType<typeof createSessions>>

/** Accounts and their sessions. Only the store decides whether a session is there. */
export async function createSessions(options: SessionsOptions) {
  const { store, cache, tokens, passwords, maxLoginFailures, log, now = Date.now } = options
  const live = createLiveSessions(store, now)
  const lockout = createLockout(cache, maxLoginFailures, log)
  const registering = oneAtATime('TOO_BUSY')
  const listeners = new Set<(sessionId: string) => void>()

  const unsubscribe = await cache.subscribe(sessionsChannel, (sessionId) => {
    live.forget(sessionId)
    for (const listener of listeners) listener(sessionId)
  })

  async function signIn(user: UserRow): Promise<SignedIn> {
    const rotatedAt = new Date(now())
    const expiresAt = new Date(now() + sessionLifeMs)
    const session = { id: newId(), userId: user.id, generation: 0, rotatedAt, expiresAt }
    await store.createSession(session)
    // The account may have been deleted meanwhile, with the sessions that it had then.
    if (!(await store.findUser(user.id))) {
      await store.deleteSession(session.id)
      throw new AppError('BAD_CREDENTIALS')
    }
    return { ...tokens.pair(session), user: presentUser(user) }
  }

  async function end(sessionId: string): Promise<void> {
    await store.deleteSession(sessionId)
    await cache.publish(sessionsChannel, sessionId)
  }

  /** @throws AppError BAD_CREDENTIALS, RATE_LIMITED, TOO_BUSY. */
  async function checkPassword(
    password: string,
    user: UserRow | undefined,
    name: string,
    network: string,
  ): Promise<UserRow> {
    const attempt = { name, userId: user?.id, network }
    await lockout.check(attempt)
    const isRight = await passwords.verify(password, user?.passwordHash, network)
    if (!user || !isRight) {
      await lockout.fail(attempt)
      throw new AppError('BAD_CREDENTIALS')
    }
    await lockout.succeed({ ...attempt, userId: user.id })
    return user
  }

  /** The session with its newest generation, if `generation` may still be exchanged for it. */
  async function rotate(session: SessionRow, generation: number): Promise<SessionRow | undefined> {
    const time = now()
    if (session.expiresAt.getTime() <= time) return undefined
    if (generation === session.generation) {
      const rotatedAt = new Date(time)
      const expiresAt = new Date(time + sessionLifeMs)
      if (await store.rotateSession(session.id, generation, rotatedAt, expiresAt)) {
        return { ...session, generation: generation + 1, rotatedAt, expiresAt }
      }
      const current = await store.findSession(session.id)
      return current && current.generation !== generation ? rotate(current, generation) : undefined
    }
    const inGrace = time - session.rotatedAt.getTime() <= graceMs
    return generation === session.generation - 1 && inGrace ? session : undefined
  }

  return {
    /**
     * @throws AppError USER_TAKEN, VALIDATION_FAILED, PASSWORD_TOO_LONG, PASSWORD_TOO_WEAK, TOO_BUSY.
     */
    async register(
      { username, email, ...input }: RegisterInput,
      network: string,
    ): Promise<SignedIn> {
      if (invisible.test(email)) {
        throw invalid([{ field: 'email', message: 'must not have invisible characters' }])
      }
      const password = await passwords.prepare(input.password, username)
      const names = [`u:${username.toLowerCase()}`, `e:${email.toLowerCase()}`]
      // Equal registrations wait for the first, so that only it pays for a hash.
      const user = await registering(names, async () => {
        const [byUsername, byEmail] = await Promise.all([
          store.findUserByLogin({ username }),
          store.findUserByLogin({ email }),
        ])
        if (byUsername ?? byEmail) throw new AppError('USER_TAKEN')
        const passwordHash = await passwords.hash(password, network)
        const created = { id: newId(), username, email, passwordHash, createdAt: new Date(now()) }
        await store.createUser(created)
        return created
      })
      await lockout.remember(user.id, network)
      return signIn(user)
    },

    /** @throws AppError BAD_CREDENTIALS, RATE_LIMITED, TOO_BUSY. */
    async login({ email, username, password }: LoginInput, network: string): Promise<SignedIn> {
      const login = readLogin(email, username)
      const user = await store.findUserByLogin(login)
      const name =
        'email' in login ? `email ${loginKey(login.email)}` : `username ${loginKey(login.username)}`
      return signIn(await checkPassword(password, user, name, network))
    },

    /**
     * Sees that a user knows the password, as a login does.
     * @throws AppError BAD_CREDENTIALS, RATE_LIMITED, TOO_BUSY.
     */
    async confirm(userId: string, password: string, network: string): Promise<void> {
      await checkPassword(password, await store.findUser(userId), `id ${userId}`, network)
    },

    /** @throws AppError BAD_REFRESH_TOKEN; a token spent too long ago also ends its session. */
    async refresh(refreshToken: string): Promise<TokenPair> {
      const claim = tokens.readRefresh(refreshToken)
      const session = claim && (await store.findSession(claim.sessionId))
      if (!session) throw new AppError('BAD_REFRESH_TOKEN')
      const rotated = await rotate(session, claim.generation)
      if (!rotated) {
        await end(session.id)
        throw new AppError('BAD_REFRESH_TOKEN')
      }
      return tokens.pair(rotated)
    },

    /** Ends a session: its tokens are refused, and every server hears of it. */
    logout: end,

    /** Ends every session of a user, as `logout` ends one. */
    async logoutEverywhere(userId: string): Promise<void> {
      const ended = await store.deleteSessionsOf(userId)
      await Promise.all(ended.map((sessionId) => cache.publish(sessionsChannel, sessionId)))
    },

    /**
     * Whom an access token speaks for.
     * @throws AppError UNAUTHORIZED, TOKEN_EXPIRED.
     */
    async authenticate(token: string): Promise<Access> {
      const access = tokens.readAccess(token)
      const userId = await live.find(access.sessionId)
      if (userId !== access.userId) throw new AppError('UNAUTHORIZED')
      return access
    },

    /** @throws AppError UNAUTHORIZED when the account is gone. */
    async profile(userId: string): Promise<User> {
      const user = await store.findUser(userId)
      if (!user) throw new AppError('UNAUTHORIZED')
      return presentUser(user)
    },

    /**
     * Calls `listener` with the id of each session that ends before its time, on whichever server.
     * @returns the way to stop hearing.
     */
    onEnded(listener: (sessionId: string) => void): () => void {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },

    async close(): Promise<void> {
      await unsubscribe()
      listeners.clear()
    },
  }
}

function readLogin(email?: string, username?: string): { email: string } | { username: string } {
  if (email !== undefined && username === undefined) return { email }
  if (username !== undefined && email === undefined) return { username }
  throw new AppError('VALIDATION_FAILED', { message: 'body must have one of email, username' })
}

function presentUser({ id, username, email, createdAt }: UserRow): User {
  return { id, username, email, createdAt: createdAt.toISOString() }
}
