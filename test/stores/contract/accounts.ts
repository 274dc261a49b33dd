import type { Test } from 'tap'
import { newId } from '../../../src/ids.js'
import { aSession, aTurn, aUser } from '../rows.js'
import { outcomes, type Subject, times } from './subject.js'

/** Users and sessions. */
export function accountContract(t: Test, { newChat, store }: Subject) {
  t.test('users', async (t) => {
    t.test('are found by id, and by username and email whatever their case and form', async (t) => {
      const tag = newId()
      const user = aUser({ username: `Ada.${tag}`, email: `Ada.Å.${tag}@Example.ORG` })
      await store().createUser(user)
      t.strictSame(await store().findUser(user.id), user)
      t.strictSame(await store().findUserByLogin({ username: `aDA.${tag.toUpperCase()}` }), user)
      t.strictSame(await store().findUserByLogin({ email: `ada.A\u030a.${tag}@example.org` }), user)
      t.equal(await store().findUser(newId()), undefined)
      t.equal(await store().findUserByLogin({ username: user.email }), undefined)
      t.equal(await store().findUserByLogin({ email: user.username }), undefined)
    })

    t.test('may not share a username or an email', async (t) => {
      const user = aUser()
      await store().createUser(user)
      const sameName = aUser({ username: user.username.toUpperCase() })
      await t.rejects(store().createUser(sameName), { code: 'USER_TAKEN' })
      await t.rejects(store().createUser(aUser({ email: user.email.toUpperCase() })), {
        code: 'USER_TAKEN',
      })
      t.equal(await store().findUser(sameName.id), undefined, 'nothing of the second is stored')
      t.equal(await store().findUserByLogin({ email: sameName.email }), undefined)
    })

    t.test('are deleted with all that is theirs, and nothing else', async (t) => {
      const [user, other] = [aUser(), aUser()]
      for (const one of [user, other]) {
        await store().createUser(one)
        await store().createSession(aSession({ userId: one.id }))
      }
      const chats = await Promise.all(times(3, () => newChat({ userId: user.id })))
      const kept = await newChat({ userId: other.id })
      const turns = await Promise.all(
        [...chats, kept].map((chat) => store().appendTurn(aTurn(chat))),
      )
      t.equal(await store().deleteUser(newId()), false)
      t.equal(await store().deleteUser(user.id), true)
      t.equal(await store().deleteUser(user.id), false)
      t.equal(await store().findUser(user.id), undefined)
      t.equal(await store().findUserByLogin({ username: user.username }), undefined)
      t.equal(await store().findUserByLogin({ email: user.email }), undefined)
      t.strictSame(await store().deleteSessionsOf(user.id), [])
      t.strictSame(await store().listChats(user.id, 10), [])
      t.strictSame(await store().listActiveRepliesOf(user.id), [])
      for (const [n, chat] of chats.entries()) {
        t.strictSame(await store().listMessages(chat.id, 10), [])
        t.equal(await store().findTurn(user.id, turns[n]?.message.id ?? ''), undefined)
        await t.rejects(store().appendTurn(aTurn(chat)), { code: 'CHAT_NOT_FOUND' })
      }
      t.strictSame(await store().findUser(other.id), other)
      t.equal((await store().listMessages(kept.id, 10)).length, 2)
      t.equal((await store().deleteSessionsOf(other.id)).length, 1)
      await store().createUser(aUser({ username: user.username, email: user.email }))
    })

    t.test('that are deleted leave nothing to be finished', async (t) => {
      await t.resolves(store().finishDeletions())
    })

    t.test('of 100 equal registrations at once, one is made', async (t) => {
      const { username, email } = aUser()
      const all = times(100, () => store().createUser(aUser({ username, email })))
      t.strictSame(await outcomes(all), { kept: 1, codes: times(99, () => 'USER_TAKEN') })
    })
  })

  t.test('sessions', async (t) => {
    t.test('are kept, rotated from their generation only, and ended', async (t) => {
      const session = aSession()
      await store().createSession(session)
      t.strictSame(await store().findSession(session.id), session)
      const rotation = {
        rotatedAt: new Date(2_000),
        spentAt: [new Date(1_500), new Date(2_000)],
        expiresAt: new Date(Date.now() + 7_200_000),
      }
      t.equal(await store().rotateSession(session.id, 2, rotation), false)
      t.strictSame(await store().findSession(session.id), session)
      t.equal(await store().rotateSession(session.id, 1, rotation), true)
      const rotated = { ...session, generation: 2, ...rotation }
      t.strictSame(await store().findSession(session.id), rotated)
      t.equal(await store().rotateSession(newId(), 1, rotation), false)
      t.equal(await store().deleteSession(session.id), true)
      t.equal(await store().deleteSession(session.id), false)
      t.equal(await store().findSession(session.id), undefined)
    })

    t.test('of one user are ended together', async (t) => {
      const userId = newId()
      const [a, b, other] = [aSession({ userId }), aSession({ userId }), aSession()]
      for (const session of [a, b, other]) await store().createSession(session)
      const ended = await store().deleteSessionsOf(userId)
      t.strictSame(ended.sort(), [a.id, b.id].sort())
      t.strictSame(await store().deleteSessionsOf(userId), [])
      t.equal(await store().findSession(a.id), undefined)
      t.strictSame(await store().findSession(other.id), other)
      t.equal(await store().rotateSession(b.id, 1, b), false)
    })

    t.test('of 20 rotations at once, one wins', async (t) => {
      const session = aSession()
      await store().createSession(session)
      const won = await Promise.all(times(20, () => store().rotateSession(session.id, 1, session)))
      t.equal(won.filter(Boolean).length, 1)
      t.equal((await store().findSession(session.id))?.generation, 2)
    })

    t.test('that are there and have not expired are told apart from others', async (t) => {
      const [a, b, gone] = [aSession(), aSession(), aSession()]
      const now = new Date()
      const expired = aSession({ expiresAt: now })
      for (const session of [a, b, gone, expired]) await store().createSession(session)
      await store().deleteSession(gone.id)
      const ids = [a.id, newId(), gone.id, expired.id, b.id]
      t.strictSame((await store().findLiveSessions(ids, now)).sort(), [a.id, b.id].sort())
      t.strictSame(await store().findLiveSessions([], now), [])
    })

    t.test('that have expired are removed, others stay', async (t) => {
      const now = new Date()
      const expired = aSession({ expiresAt: new Date(now.getTime() - 1) })
      const alive = aSession({ expiresAt: new Date(now.getTime() + 1) })
      await store().createSession(expired)
      await store().createSession(alive)
      await store().deleteExpiredSessions(now)
      t.equal(await store().findSession(expired.id), undefined)
      t.strictSame(await store().findSession(alive.id), alive)
    })
  })
}
