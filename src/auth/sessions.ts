import { setTimeout as delay } from 'node:timers/promises'
import type {
  LoginInput,
  RegisterInput,
  SessionEnd,
  SignedIn,
  TokenPair,
  User,
} from '../../schemas/auth.js'
import type { Cache } from '../cache/cache.js'
import { sessionKey, sessionsChannel, sessionsEndingKey } from '../cache/keys.js'
import { AppError, invalid } from '../errors.js'
import { newId } from '../ids.js'
import type { Log } from '../logging.js'
import { oneAtATime } from '../one-at-a-time.js'
import { loginKey } from '../stores/login-key.js'
import type { SessionRow, Store, UserRow } from '../stores/store.js'
import { isSessionEnd, LiveSessions, type SessionOwner } from './live-sessions.js'
import { createLockout } from './lockout.js'
import type { Passwords } from './passwords.js'
import type { Access, Tokens } from './tokens.js'

const sessionLifeMs = 30 * 86_400_000
/** How long a spent refresh token still gives the newest pair: the answer may have been lost. */
const graceMs = 10_000
/** Emails that differ in these look alike. The schema lists those that any regular expression can name. */
const invisible = /[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]/u
/** The most rotations that are remembered for the grace. */
const maxSpent = 100
/** After how long the store is asked again whether sessions ended, in milliseconds. */
const reviewRetryMs = 1000
/** A message that sessions may have ended, without saying which. */
const someEnded = 'some'
/** How much longer than any access token a tombstone stays, in milliseconds. */
const tombstoneMarginMs = 60_000

interface SessionsOptions {
  store: Store
  cache: Cache
  tokens: Tokens
  passwords: Passwords
  /** After so many failed logins in five minutes a network is refused a name. */
  maxLoginFailures: number
  log: Pick<Log, 'info' | 'warn'>
  /** The clock, in milliseconds since 1970. */
  now?: () => number
}

export type Sessions = Awaited<ReturnType<typeof createSessions>>

/** Accounts and their sessions. The store decides whether a session is there; the cache repeats it. */
export async function createSessions(options: SessionsOptions) {
  const { store, cache, tokens, passwords, maxLoginFailures, log, now = Date.now } = options
  const live = new LiveSessions({ store, cache, rememberMs: tokens.lifeMs, now })
  const lockout = createLockout(cache, maxLoginFailures, log)
  const registering = oneAtATime('TOO_BUSY')
  const closed = new AbortController()
  let isReviewing = false
  let isReviewDue = false

  const stopHearing = await cache.subscribe(sessionsChannel, (news) => {
    if (news === someEnded) return reviewSoon()
    const [sessionId = '', code] = news.split(' ')
    live.end(sessionId, isSessionEnd(code) ? code : 'LOGGED_OUT')
  })
  const stopReviewing = cache.onGap(reviewSoon)

  async function signIn(user: UserRow): Promise<SignedIn> {
    const rotatedAt = new Date(now())
    const expiresAt = new Date(now() + sessionLifeMs)
    const session: SessionRow = {
      id: newId(),
      userId: user.id,
      generation: 0,
      rotatedAt,
      spentAt: [],
      expiresAt,
    }
    await store.createSession(session)
    // The account may have been deleted meanwhile, with the sessions that it had then.
    if (!(await store.findUser(user.id))) {
      await store.deleteSession(session.id)
      throw new AppError('BAD_CREDENTIALS')
    }
    return { ...tokens.pair(session, now()), user: presentUser(user) }
  }

  /**
   * Removes a user's sessions from the store, then tells every server why they ended. Until all is
   * told no cached copy of them is believed: this process may die, or the store not answer.
   */
  async function end(
    code: SessionEnd,
    userId: string,
    network: string | undefined,
    remove: () => Promise<string[]>,
  ): Promise<void> {
    const ending = sessionsEndingKey(userId)
    await cache.set(ending.key, '1', ending.ttlMs)
    let ended: string[]
    try {
      ended = await remove()
    } catch (error) {
      // They may be removed nevertheless, and open at any server.
      void cache.publish(sessionsChannel, someEnded)
      throw error
    }
    for (const sessionId of ended) {
      log.info({ event: 'session-ended', code, sessionId, userId, network }, 'a session ended')
    }
    await Promise.all(ended.map((sessionId) => announce(sessionId, code)))
    await cache.delete(ending.key)
  }

  const endOne = (code: SessionEnd, { sessionId, userId }: SessionOwner, network?: string) =>
    end(code, userId, network, async () => {
      await store.deleteSession(sessionId)
      return [sessionId]
    })

  /** Tells every server now, and by a tombstone those that cannot hear it now. */
  async function announce(sessionId: string, code: SessionEnd): Promise<void> {
    live.end(sessionId, code)
    await Promise.all([
      bury(sessionId, code),
      cache.publish(sessionsChannel, `${sessionId} ${code}`),
    ])
  }

  /** Replaces what is cached of a session by a tombstone, or removes it where Redis refuses that. */
  async function bury(sessionId: string, code: SessionEnd): Promise<void> {
    const { key } = sessionKey(sessionId)
    const isBuried = await cache.set(key, code, tokens.lifeMs + tombstoneMarginMs)
    if (!isBuried) await cache.delete(key)
  }

  /** The store does not have a session any more, of whose end this server has not heard. */
  async function learnEnd(sessionId: string): Promise<void> {
    const code = await cache.get(sessionKey(sessionId).key)
    if (isSessionEnd(code)) live.end(sessionId, code)
    else void announce(sessionId, 'LOGGED_OUT')
  }

  async function isLive(owner: SessionOwner): Promise<boolean> {
    const isThere = await live.isLive(owner)
    if (!isThere && live.isWatched(owner.sessionId)) await learnEnd(owner.sessionId)
    return isThere
  }

  /** Asks the store which of the watched sessions have ended: messages may have been missed. */
  function reviewSoon(): void {
    isReviewDue = true
    if (!isReviewing) void reviewAll()
  }

  async function reviewAll(): Promise<void> {
    isReviewing = true
    let failed = false
    while (isReviewDue && !closed.signal.aborted) {
      isReviewDue = false
      try {
        await Promise.all((await live.findLost()).map(learnEnd))
        failed = false
      } catch (error) {
        if (!failed)
          log.warn(
            { err: error },
            'could not ask the store which sessions have ended; asking again in a second',
          )
        failed = true
        isReviewDue = true
        await delay(reviewRetryMs, undefined, { ref: false })
      }
    }
    isReviewing = false
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
      const inGrace = session.spentAt.filter((spent) => time - spent.getTime() <= graceMs)
      const rotation = { rotatedAt, spentAt: [...inGrace, rotatedAt].slice(-maxSpent), expiresAt }
      if (await store.rotateSession(session.id, generation, rotation)) {
        return { ...session, generation: generation + 1, ...rotation }
      }
      const current = await store.findSession(session.id)
      return current && current.generation !== generation ? rotate(current, generation) : undefined
    }
    const spent = session.spentAt.at(generation - session.generation)
    const isOlder = generation < session.generation
    return isOlder && spent && time - spent.getTime() <= graceMs ? session : undefined
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
     * Checks a user's password, as a login does.
     * @throws AppError BAD_CREDENTIALS, RATE_LIMITED, TOO_BUSY.
     */
    async confirm(userId: string, password: string, network: string): Promise<void> {
      await checkPassword(password, await store.findUser(userId), `id ${userId}`, network)
    },

    /** @throws AppError BAD_REFRESH_TOKEN; a token spent too long ago also ends its session. */
    async refresh(refreshToken: string, network?: string): Promise<TokenPair> {
      const claim = tokens.readRefresh(refreshToken)
      const session = claim && (await store.findSession(claim.sessionId))
      if (!session) throw new AppError('BAD_REFRESH_TOKEN')
      const rotated = await rotate(session, claim.generation)
      if (!rotated) {
        const hasExpired = session.expiresAt.getTime() <= now()
        const owner = { sessionId: session.id, userId: session.userId }
        if (!hasExpired) {
          log.warn(
            { event: 'token-reused', ...owner, network },
            'a spent refresh token was used again, perhaps by a thief; its session ends',
          )
        }
        await endOne(hasExpired ? 'LOGGED_OUT' : 'TOKEN_REUSED', owner, network)
        throw new AppError('BAD_REFRESH_TOKEN')
      }
      return tokens.pair(rotated, now())
    },

    /** Ends a session: its tokens are refused, and every server hears of it. */
    logout: (owner: SessionOwner, network?: string) => endOne('LOGGED_OUT', owner, network),

    /** Ends every session of a user, as `logout` ends one. */
    logoutEverywhere: (userId: string, code: SessionEnd = 'LOGGED_OUT', network?: string) =>
      end(code, userId, network, () => store.deleteSessionsOf(userId)),

    /**
     * Reads an access token and checks that its session is live.
     * @throws AppError UNAUTHORIZED, TOKEN_EXPIRED.
     */
    async authenticate(token: string): Promise<Access> {
      const access = tokens.readAccess(token)
      if (!(await isLive(access))) throw new AppError('UNAUTHORIZED')
      return access
    },

    /**
     * Checks that a session which was authenticated before is still there.
     * @throws AppError with the code of its end.
     */
    async assertLive(owner: SessionOwner): Promise<void> {
      if (await isLive(owner)) return
      throw new AppError(live.endOf(owner.sessionId) ?? 'LOGGED_OUT')
    },

    /** Why a session ended, as far as this server has heard. */
    endOf: (sessionId: string) => live.endOf(sessionId),

    /** @throws AppError UNAUTHORIZED when the account is gone. */
    async profile(userId: string): Promise<User> {
      const user = await store.findUser(userId)
      if (!user) throw new AppError('UNAUTHORIZED')
      return presentUser(user)
    },

    /**
     * Calls `onEnd` once the session ends, at whichever server; at once if it has.
     * @returns what ends the watch.
     */
    watch: (sessionId: string, onEnd: (code: SessionEnd) => void) => live.watch(sessionId, onEnd),

    async close(): Promise<void> {
      closed.abort()
      stopReviewing()
      await stopHearing()
    },
  }
}

function readLogin(email?: string, username?: string): { email: string } | { username: string } {
  if (email !== undefined && username === undefined) return { email }
  if (username !== undefined && email === undefined) return { username }
  const message = email === undefined ? 'is missing' : 'are both there: send one of them'
  throw invalid([{ field: 'email, username', message }])
}

function presentUser({ id, username, email, createdAt }: UserRow): User {
  return { id, username, email, createdAt: createdAt.toISOString() }
}
