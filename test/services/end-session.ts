import type { SessionEnd } from '../../schemas/auth.js'
import { api, type startApp, testPassword } from './app.js'

type App = Awaited<ReturnType<typeof startApp>>['app']

/** Each way in which a session ends before its time. */
export const sessionEnds = [
  'LOGGED_OUT',
  'TOKEN_REUSED',
  'ACCOUNT_DELETED',
] as const satisfies readonly SessionEnd[]

/** Ends a user's session in the way that `code` names. */
export async function endSession(
  code: SessionEnd,
  { app, url }: { app: App; url: string },
  { token, refreshToken }: { token: string; refreshToken: string },
): Promise<void> {
  const call = api(url, token)
  if (code === 'LOGGED_OUT') await call('POST', '/api/auth/logout')
  else if (code === 'ACCOUNT_DELETED') {
    await call('DELETE', '/api/auth/profile', { password: testPassword })
  } else {
    await spendLongAgo(app, token)
    await call('POST', '/api/auth/refresh', { refreshToken })
  }
}

/** Has the store say that a session's first refresh token was spent a minute ago. */
async function spendLongAgo(app: App, token: string): Promise<void> {
  const { sessionId } = await app.sessions.authenticate(token)
  const session = await app.store.findSession(sessionId)
  if (!session) throw new Error('the session is not there')
  const { generation, expiresAt } = session
  const rotatedAt = new Date(Date.now() - 60_000)
  await app.store.rotateSession(sessionId, generation, {
    rotatedAt,
    spentAt: [rotatedAt],
    expiresAt,
  })
}
