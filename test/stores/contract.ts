import type { Test } from 'tap'
import { newId } from '../../src/ids.js'
import type { ChatRow, Store } from '../../src/stores/store.js'
import { aChat, aSession, aTurn, aUser } from './rows.js'

/** Text that a careless store changes: composed, decomposed, beyond the BMP, escapes, NUL. */
const hardText = 'é e\u0301 👨‍👩‍👧‍👦 🇪🇺 漢字 ﷽ \u200d\ufeff "\\\n\t\u2028\u0001 \u0000 ’ end'

const times = <T>(count: number, make: (index: number) => T) =>
  Array.from({ length: count }, (_, i) => make(i))

const codeOf = (error: unknown) =>
  error instanceof Error && 'code' in error ? error.code : String(error)

/** How many of `promises` were kept, and the codes of those that were not. */
async function outcomes(promises: readonly Promise<unknown>[]) {
  const settled = await Promise.allSettled(promises)
  return {
    kept: settled.filter(({ status }) => status === 'fulfilled').length,
    codes: settled.flatMap((result) =>
      result.status === 'rejected' ? [codeOf(result.reason)] : [],
    ),
  }
}

/** What every store must do. Each part makes ids of its own, so that one store serves them all. */
export function storeContract(t: Test, open: () => Promise<Store>) {
  let store: Store
  t.before(async () => {
    store = await open()
  })
  t.teardown(() => store?.close())

  const newChat = async (fields: Partial<ChatRow> = {}) => {
    const chat = aChat(fields)
    await store.createChat(chat)
    return chat
  }

  t.test('answers a ping', async (t) => {
    await t.resolves(store.ping())
  })

  t.test('users', async (t) => {
    t.test('are found by id, and by username and email whatever their case and form', async (t) => {
      const tag = newId()
      const user = aUser({ username: `Ada.${tag}`, email: `Ada.Å.${tag}@Example.ORG` })
      await store.createUser(user)
      t.strictSame(await store.findUser(user.id), user)
      t.strictSame(await store.findUserByLogin({ username: `aDA.${tag.toUpperCase()}` }), user)
      t.strictSame(await store.findUserByLogin({ email: `ada.A\u030a.${tag}@example.org` }), user)
      t.equal(await store.findUser(newId()), undefined)
      t.equal(await store.findUserByLogin({ username: user.email }), undefined)
      t.equal(await store.findUserByLogin({ email: user.username }), undefined)
    })

    t.test('may not share a username or an email', async (t) => {
      const user = aUser()
      await store.createUser(user)
      const sameName = aUser({ username: user.username.toUpperCase() })
      await t.rejects(store.createUser(sameName), { code: 'USER_TAKEN' })
      await t.rejects(store.createUser(aUser({ email: user.email.toUpperCase() })), {
        code: 'USER_TAKEN',
      })
      t.equal(await store.findUser(sameName.id), undefined, 'nothing of the second is stored')
      t.equal(await store.findUserByLogin({ email: sameName.email }), undefined)
    })

    t.test('of 100 equal registrations at once, one is made', async (t) => {
      const { username, email } = aUser()
      const all = times(100, () => store.createUser(aUser({ username, email })))
      t.strictSame(await outcomes(all), { kept: 1, codes: times(99, () => 'USER_TAKEN') })
    })
  })

  t.test('sessions', async (t) => {
    t.test('are kept, rotated from their generation only, and ended', async (t) => {
      const session = aSession()
      await store.createSession(session)
      t.strictSame(await store.findSession(session.id), session)
      const [rotatedAt, expiresAt] = [new Date(2_000), new Date(Date.now() + 7_200_000)]
      t.equal(await store.rotateSession(session.id, 2, rotatedAt, expiresAt), false)
      t.strictSame(await store.findSession(session.id), session)
      t.equal(await store.rotateSession(session.id, 1, rotatedAt, expiresAt), true)
      const rotated = { ...session, generation: 2, rotatedAt, expiresAt }
      t.strictSame(await store.findSession(session.id), rotated)
      t.equal(await store.rotateSession(newId(), 1, rotatedAt, expiresAt), false)
      t.equal(await store.deleteSession(session.id), true)
      t.equal(await store.deleteSession(session.id), false)
      t.equal(await store.findSession(session.id), undefined)
    })

    t.test('of 20 rotations at once, one wins', async (t) => {
      const session = aSession()
      await store.createSession(session)
      const won = await Promise.all(
        times(20, () => store.rotateSession(session.id, 1, new Date(), session.expiresAt)),
      )
      t.equal(won.filter(Boolean).length, 1)
      t.equal((await store.findSession(session.id))?.generation, 2)
    })

    t.test('that have expired are removed, others stay', async (t) => {
      const now = new Date()
      const expired = aSession({ expiresAt: new Date(now.getTime() - 1) })
      const alive = aSession({ expiresAt: new Date(now.getTime() + 1) })
      await store.createSession(expired)
      await store.createSession(alive)
      await store.deleteExpiredSessions(now)
      t.equal(await store.findSession(expired.id), undefined)
      t.strictSame(await store.findSession(alive.id), alive)
    })
  })

  t.test('chats', async (t) => {
    t.test('are found whole by their owner, and by nobody else', async (t) => {
      const bare = await newChat()
      const full = await newChat({
        title: hardText,
        model: 'llama3.2:1b',
        system: hardText,
        options: { temperature: 0.1, top_p: 0.95, stop: ['\n\n', '漢'] },
      })
      t.strictSame(await store.findChat(bare.userId, bare.id), bare)
      t.strictSame(await store.findChat(full.userId, full.id), full)
      t.equal(await store.findChat(newId(), full.id), undefined)
      t.equal(await store.findChat(full.userId, newId()), undefined)
    })

    t.test('are changed where the patch says so', async (t) => {
      const chat = await newChat({ title: 'A', system: 'Be brief.', options: { seed: 1 } })
      const now = new Date(2_000)
      const renamed = await store.updateChat(chat.userId, chat.id, { title: 'B' }, now)
      t.strictSame(renamed, { ...chat, title: 'B', updatedAt: now })
      const patch = { model: 'm', system: '', options: { num_predict: 5 } }
      const changed = await store.updateChat(chat.userId, chat.id, patch, now)
      t.strictSame(changed, { ...chat, title: 'B', ...patch, updatedAt: now })
      t.strictSame(await store.findChat(chat.userId, chat.id), changed)
      const early = await store.updateChat(chat.userId, chat.id, { title: null }, new Date(0))
      t.strictSame(early, { ...changed, title: null }, 'activity never goes back')
      t.equal(await store.updateChat(newId(), chat.id, { title: 'C' }, now), undefined)
      t.equal(await store.updateChat(chat.userId, newId(), { title: 'C' }, now), undefined)
    })

    t.test('are listed newest activity first, page by page, each once', async (t) => {
      const userId = newId()
      await newChat({ title: 'another user’s' })
      // Seven share each time, so that pages end between equals.
      const chats = await Promise.all(
        times(45, (i) => newChat({ userId, title: `${i}`, updatedAt: new Date(1_000 + (i % 7)) })),
      )
      const expected = chats
        .sort((a, b) => Number(b.updatedAt) - Number(a.updatedAt) || (a.id < b.id ? 1 : -1))
        .map(({ id }) => id)
      for (const limit of [1, 10, 45, 100]) {
        const seen: string[] = []
        let after: ChatRow | undefined
        do {
          const page: ChatRow[] = await store.listChats(userId, limit, after)
          t.ok(page.length <= limit)
          seen.push(...page.map(({ id }) => id))
          after = page.length === limit ? page.at(-1) : undefined
        } while (after)
        t.strictSame(seen, expected, `pages of ${limit}`)
      }
      t.strictSame(await store.listChats(newId(), 10), [])
      const [first] = await store.listChats(userId, 1)
      t.match(chats[0], first ?? t.fail('a list is empty'), 'a row of the list is of its chat')
    })

    t.test('are deleted with their messages, by their owner only', async (t) => {
      const [chat, other] = [await newChat(), await newChat()]
      const turn = await store.appendTurn(aTurn(chat))
      const kept = await store.appendTurn(aTurn(other))
      t.equal(await store.deleteChat(newId(), chat.id), false)
      t.equal((await store.listMessages(chat.id, 10)).length, 2)
      t.equal(await store.deleteChat(chat.userId, chat.id), true)
      t.equal(await store.deleteChat(chat.userId, chat.id), false)
      t.equal(await store.findChat(chat.userId, chat.id), undefined)
      t.strictSame(await store.listChats(chat.userId, 10), [])
      t.strictSame(await store.listMessages(chat.id, 10), [])
      t.strictSame(await store.listActiveReplies(chat.id), [])
      t.equal(await store.findTurn(chat.userId, turn.message.id), undefined)
      t.equal(await store.updateReply(turn.reply.id, { status: ['queued'] }, {}), undefined)
      await t.rejects(store.appendTurn(aTurn(chat)), { code: 'CHAT_NOT_FOUND' })
      t.strictSame(await store.listMessages(other.id, 10), [kept.message, kept.reply])
    })
  })

  t.test('turns', async (t) => {
    t.test('are stored exactly, and move their chat', async (t) => {
      const chat = await newChat()
      const turn = aTurn(chat, { content: hardText })
      const stored = await store.appendTurn(turn)
      const message = { ...turn.message, seq: 1 }
      const reply = { ...turn.reply, seq: 2 }
      t.strictSame(stored, { message, reply, created: true })
      t.strictSame(await store.listMessages(chat.id, 10), [message, reply])
      t.strictSame(await store.findMessage(chat.userId, chat.id, message.id), message)
      t.strictSame(await store.findTurn(chat.userId, message.id), { message, reply })
      t.strictSame(await store.findChat(chat.userId, chat.id), {
        ...chat,
        title: turn.title,
        messageCount: 2,
        updatedAt: message.createdAt,
      })
      const second = await store.appendTurn(aTurn(chat, { content: 'Other words' }))
      t.strictSame([second.message.seq, second.reply.seq], [3, 4])
      t.match(await store.findChat(chat.userId, chat.id), { title: turn.title, messageCount: 4 })
    })

    t.test('are not stored in a chat that is absent or another’s', async (t) => {
      const chat = await newChat()
      await t.rejects(store.appendTurn(aTurn({ ...chat, id: newId() })), { code: 'CHAT_NOT_FOUND' })
      const foreign = aTurn({ ...chat, userId: newId() })
      await t.rejects(store.appendTurn(foreign), { code: 'CHAT_NOT_FOUND' })
      t.strictSame(await store.listMessages(chat.id, 10), [])
      t.match(await store.findChat(chat.userId, chat.id), { title: null, messageCount: 0 })
    })

    t.test('are found by their own user and chat only', async (t) => {
      const chat = await newChat()
      const { message, reply } = await store.appendTurn(aTurn(chat))
      t.equal(await store.findMessage(newId(), chat.id, message.id), undefined)
      t.equal(await store.findMessage(chat.userId, newId(), message.id), undefined)
      t.equal(await store.findMessage(chat.userId, chat.id, newId()), undefined)
      t.equal(await store.findTurn(newId(), message.id), undefined)
      t.equal(await store.findTurn(chat.userId, newId()), undefined)
      await store.appendTurn(aTurn(chat))
      t.equal(await store.findTurn(chat.userId, reply.id), undefined, 'a reply begins no turn')
    })

    t.test('that come again are answered with what is stored', async (t) => {
      const chat = await newChat()
      const turn = aTurn(chat)
      const { message, reply } = await store.appendTurn(turn)
      const change = { status: 'complete', content: 'Done', leaseUntil: null, owner: null } as const
      const ended = await store.updateReply(reply.id, { status: ['queued'] }, change)
      const again = { ...turn, reply: { ...turn.reply, createdAt: new Date(7_000) } }
      t.strictSame(await store.appendTurn(again), { message, reply: ended, created: false })
      t.equal((await store.findChat(chat.userId, chat.id))?.messageCount, 2)
    })

    t.test('with a used id and another body or chat are refused', async (t) => {
      const chat = await newChat()
      const turn = aTurn(chat)
      await store.appendTurn(turn)
      const otherBody = { ...turn, message: { ...turn.message, fingerprint: 'other' } }
      await t.rejects(store.appendTurn(otherBody), { code: 'IDEMPOTENCY_KEY_REUSED' })
      const otherChat = await newChat({ userId: chat.userId })
      const moved = {
        ...turn,
        message: { ...turn.message, chatId: otherChat.id },
        reply: { ...turn.reply, chatId: otherChat.id },
      }
      await t.rejects(store.appendTurn(moved), { code: 'IDEMPOTENCY_KEY_REUSED' })
      t.strictSame(await store.listMessages(otherChat.id, 10), [])
      t.equal((await store.listMessages(chat.id, 10)).length, 2)
    })

    t.test('of 100 equal ones at once, one is created and all get it', async (t) => {
      const chat = await newChat()
      const turn = aTurn(chat)
      const stored = await Promise.all(times(100, () => store.appendTurn(turn)))
      t.equal(stored.filter(({ created }) => created).length, 1)
      const messages = await store.listMessages(chat.id, 100)
      t.strictSame(messages, [
        { ...turn.message, seq: 1 },
        { ...turn.reply, seq: 2 },
      ])
      for (const { message, reply } of stored) t.strictSame([message, reply], messages)
    })

    t.test('of one chat at once take every place from 1 without a gap', async (t) => {
      const chat = await newChat()
      const turns = times(30, (i) => aTurn(chat, { content: `turn ${i}` }))
      const stored = await Promise.all(turns.map((turn) => store.appendTurn(turn)))
      for (const [i, { message, reply, created }] of stored.entries()) {
        t.strictSame(message, { ...turns[i]?.message, seq: message.seq })
        t.strictSame(reply, { ...turns[i]?.reply, seq: message.seq + 1 }, 'the reply comes next')
        t.equal(created, true)
      }
      const places = (await store.listMessages(chat.id, 100)).map(({ seq }) => seq)
      t.strictSame(
        places,
        times(60, (i) => i + 1),
      )
      t.equal((await store.findChat(chat.userId, chat.id))?.messageCount, 60)
    })

    t.test('that race their chat’s deletion leave no message behind', async (t) => {
      for (const _ of times(5, () => 0)) {
        const chat = await newChat()
        const appends = times(10, () => store.appendTurn(aTurn(chat)))
        const deletion = store.deleteChat(chat.userId, chat.id)
        const { codes } = await outcomes([
          ...appends,
          ...times(5, () => store.appendTurn(aTurn(chat))),
        ])
        t.ok(
          codes.every((code) => code === 'CHAT_NOT_FOUND'),
          `${codes}`,
        )
        t.equal(await deletion, true)
        t.strictSame(await store.listMessages(chat.id, 100), [])
      }
    })
  })

  t.test('messages are listed in order, page by page, each once', async (t) => {
    const chat = await newChat()
    for (const i of times(12, (index) => index))
      await store.appendTurn(aTurn(chat, { content: `${i}` }))
    for (const limit of [1, 7, 24, 100]) {
      const seen: number[] = []
      let before: number | undefined
      do {
        const page = (await store.listMessages(chat.id, limit, before)).map(({ seq }) => seq)
        seen.unshift(...page)
        before = page.length === limit ? page[0] : undefined
      } while (before !== undefined)
      t.strictSame(
        seen,
        times(24, (i) => i + 1),
        `pages of ${limit}`,
      )
    }
    t.strictSame(await store.listMessages(newId(), 10), [])
  })

  t.test('replies', async (t) => {
    t.test('are active until they end', async (t) => {
      const chat = await newChat()
      const [first, second] = [
        await store.appendTurn(aTurn(chat)),
        await store.appendTurn(aTurn(chat)),
      ]
      t.strictSame(await store.listActiveReplies(chat.id), [first.reply, second.reply])
      const usage = { messagesSent: 2, messagesDropped: 0, replyTokens: 3, tokensPerSecond: 12.75 }
      const ended = await store.updateReply(
        first.reply.id,
        { status: ['queued', 'streaming'], epoch: 1, owner: 'process-a' },
        {
          status: 'complete',
          content: hardText,
          thinking: hardText,
          usage,
          completedAt: new Date(6_000),
          owner: null,
          leaseUntil: null,
        },
      )
      const { owner: _, leaseUntil: __, ...rest } = first.reply
      t.strictSame(ended, {
        ...rest,
        status: 'complete',
        content: hardText,
        thinking: hardText,
        usage,
        completedAt: new Date(6_000),
      })
      t.strictSame(await store.findMessage(chat.userId, chat.id, first.reply.id), ended)
      t.strictSame(await store.listActiveReplies(chat.id), [second.reply])
    })

    t.test('change only while status, epoch and owner hold', async (t) => {
      const chat = await newChat()
      const { reply } = await store.appendTurn(aTurn(chat))
      const change = { content: 'late' }
      for (const condition of [
        { status: [] },
        { status: ['streaming'] },
        { status: ['queued'], epoch: 2 },
        { status: ['queued'], owner: 'process-b' },
        { status: ['queued'], owner: null },
      ] as const) {
        t.equal(await store.updateReply(reply.id, condition, change), undefined)
      }
      t.equal(await store.updateReply(newId(), { status: ['queued'] }, change), undefined)
      t.strictSame(await store.findMessage(chat.userId, chat.id, reply.id), reply)

      const released = await store.updateReply(reply.id, { status: ['queued'] }, { owner: null })
      t.equal(released?.owner, undefined)
      t.strictSame(released?.leaseUntil, reply.leaseUntil)
      const taken = await store.updateReply(
        reply.id,
        { status: ['queued'], owner: null },
        { status: 'streaming', owner: 'process-b', epoch: 2, epochStart: 4, takeovers: 1 },
      )
      t.match(taken, { status: 'streaming', owner: 'process-b', epoch: 2, epochStart: 4 })
      const error = { code: 'MODEL_CUT', message: 'Cut.' }
      const cut = { status: 'error', error, thinking: null } as const
      t.match(await store.updateReply(reply.id, { status: ['streaming'] }, cut), { error })
    })

    t.test('of 50 that would end one at once, exactly one does', async (t) => {
      const chat = await newChat()
      const { reply } = await store.appendTurn(aTurn(chat))
      const ends = await Promise.all(
        times(50, (i) =>
          store.updateReply(
            reply.id,
            { status: ['queued', 'streaming'], epoch: 1 },
            { status: 'stopped', content: `by ${i}`, owner: null, leaseUntil: null },
          ),
        ),
      )
      const won = ends.filter((row) => row !== undefined)
      t.equal(won.length, 1)
      t.strictSame(await store.findMessage(chat.userId, chat.id, reply.id), won[0])
    })

    t.test('are checkpointed while held, and the lost ones told', async (t) => {
      const chat = await newChat()
      const replies = []
      for (const owner of ['process-a', 'process-a', 'process-b']) {
        const { reply } = await store.appendTurn(aTurn(chat, { owner }))
        await store.updateReply(reply.id, { status: ['queued'] }, { status: 'streaming' })
        replies.push(reply)
      }
      const { reply: queued } = await store.appendTurn(aTurn(chat))
      const [held, older, others] = replies
      if (!held || !older || !others) return t.fail('three replies were made')
      const save = ({ id }: { id: string }, epoch = 1) => ({
        id,
        owner: 'process-a',
        epoch,
        content: hardText,
      })
      const lost = await store.checkpoint([
        { ...save(held), thinking: 'Hm.' },
        save(older, 2),
        save(others),
        save(queued),
        save({ id: newId() }),
      ])
      t.strictSame(lost.slice(0, 3), [older.id, others.id, queued.id])
      t.equal(lost.length, 4)
      t.strictSame(await store.checkpoint([save(held)]), [])
      t.strictSame(await store.checkpoint([save(held)]), [], 'equal text is stored as well')
      t.strictSame(await store.checkpoint([]), [])
      const texts = (await store.listActiveReplies(chat.id)).map(({ content }) => content)
      t.strictSame(texts, [hardText, '', '', ''])
      t.equal((await store.findMessage(chat.userId, chat.id, held.id))?.thinking, 'Hm.')
    })

    t.test('lapse when their lease is over, and not when it was renewed', async (t) => {
      const chat = await newChat()
      const owner = `process-${newId()}`
      const leaseUntil = new Date(10_000)
      const mine = await store.appendTurn(aTurn(chat, { owner, leaseUntil }))
      const ended = await store.appendTurn(aTurn(chat, { owner, leaseUntil }))
      const other = await store.appendTurn(aTurn(chat, { owner: newId(), leaseUntil }))
      const end = { status: 'stopped', owner: null, leaseUntil: null } as const
      await store.updateReply(ended.reply.id, { status: ['queued'] }, end)
      const lapsed = async (now: number) =>
        (await store.findLapsedReplies(new Date(now), 1_000)).filter(
          ({ chatId }) => chatId === chat.id,
        )
      t.strictSame(await lapsed(9_999), [])
      t.strictSame(await lapsed(10_000), [mine.reply, other.reply])
      t.equal((await store.findLapsedReplies(new Date(10_000), 1)).length, 1)

      const later = new Date(20_000)
      await store.renewLeases(owner, later)
      t.strictSame(await lapsed(10_000), [other.reply])
      t.strictSame(await lapsed(20_000), [{ ...mine.reply, leaseUntil: later }, other.reply])
      const messages = await store.listMessages(chat.id, 10)
      const untouched = messages.find(({ id }) => id === ended.reply.id)
      t.equal(untouched?.leaseUntil, undefined, 'a reply that ended gets no lease')
      await store.deleteChat(chat.userId, chat.id)
    })
  })
}
