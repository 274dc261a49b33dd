import type { Test } from 'tap'
import { newId } from '../../../src/ids.js'
import { aTurn, aUser } from '../rows.js'
import { hardText, outcomes, type Subject, times } from './subject.js'

/** Storing turns and reading them. */
export function turnContract(t: Test, { newChat, store }: Subject) {
  t.test('turns', async (t) => {
    t.test('are stored exactly, and move their chat', async (t) => {
      const chat = await newChat()
      const turn = aTurn(chat, { content: hardText })
      const stored = await store().appendTurn(turn)
      const message = { ...turn.message, seq: 1 }
      const reply = { ...turn.reply, seq: 2 }
      const moved = {
        ...chat,
        title: turn.title,
        messageCount: 2,
        updatedAt: message.createdAt,
      }
      t.strictSame(stored, { message, reply, created: true, chat: moved })
      t.strictSame(await store().listMessages(chat.id, 10), [message, reply])
      t.strictSame(await store().findMessage(chat.userId, chat.id, message.id), message)
      t.strictSame(await store().findTurn(chat.userId, message.id), { message, reply })
      t.strictSame(await store().findChat(chat.userId, chat.id), moved)
      const second = await store().appendTurn(aTurn(chat, { content: 'Other words' }))
      t.strictSame([second.message.seq, second.reply.seq], [3, 4])
      t.match(await store().findChat(chat.userId, chat.id), { title: turn.title, messageCount: 4 })
    })

    t.test('move a chat that was changed later in number alone', async (t) => {
      const chat = await newChat({ title: 'Its own', updatedAt: new Date(9_000) })
      const { chat: moved } = await store().appendTurn(aTurn(chat))
      t.strictSame(moved, { ...chat, messageCount: 2 })
      t.strictSame(await store().findChat(chat.userId, chat.id), moved)
    })

    t.test('are not stored in a chat that is absent or another’s', async (t) => {
      const chat = await newChat()
      await t.rejects(store().appendTurn(aTurn({ ...chat, id: newId() })), {
        code: 'CHAT_NOT_FOUND',
      })
      const foreign = aTurn({ ...chat, userId: newId() })
      await t.rejects(store().appendTurn(foreign), { code: 'CHAT_NOT_FOUND' })
      t.strictSame(await store().listMessages(chat.id, 10), [])
      t.match(await store().findChat(chat.userId, chat.id), { title: null, messageCount: 0 })
    })

    t.test('are found by their own user and chat only', async (t) => {
      const chat = await newChat()
      const { message, reply } = await store().appendTurn(aTurn(chat))
      t.equal(await store().findMessage(newId(), chat.id, message.id), undefined)
      t.equal(await store().findMessage(chat.userId, newId(), message.id), undefined)
      t.equal(await store().findMessage(chat.userId, chat.id, newId()), undefined)
      t.equal(await store().findTurn(newId(), message.id), undefined)
      t.equal(await store().findTurn(chat.userId, newId()), undefined)
      await store().appendTurn(aTurn(chat))
      t.equal(await store().findTurn(chat.userId, reply.id), undefined, 'a reply begins no turn')
    })

    t.test('that come again are answered with what is stored', async (t) => {
      const chat = await newChat()
      const turn = aTurn(chat)
      const { message, reply } = await store().appendTurn(turn)
      const change = { status: 'complete', content: 'Done', leaseUntil: null, owner: null } as const
      const ended = await store().updateReply(reply.id, { status: ['queued'] }, change)
      const again = { ...turn, reply: { ...turn.reply, createdAt: new Date(7_000) } }
      t.strictSame(await store().appendTurn(again), { message, reply: ended, created: false })
      t.equal((await store().findChat(chat.userId, chat.id))?.messageCount, 2)
    })

    t.test('with a used id and another body or chat are refused', async (t) => {
      const chat = await newChat()
      const turn = aTurn(chat)
      await store().appendTurn(turn)
      const otherBody = { ...turn, message: { ...turn.message, fingerprint: 'other' } }
      await t.rejects(store().appendTurn(otherBody), { code: 'IDEMPOTENCY_KEY_REUSED' })
      const otherChat = await newChat({ userId: chat.userId })
      const moved = {
        ...turn,
        message: { ...turn.message, chatId: otherChat.id },
        reply: { ...turn.reply, chatId: otherChat.id },
      }
      await t.rejects(store().appendTurn(moved), { code: 'IDEMPOTENCY_KEY_REUSED' })
      t.strictSame(await store().listMessages(otherChat.id, 10), [])
      t.equal((await store().listMessages(chat.id, 10)).length, 2)
    })

    t.test('of 30 equal ones at once, one is created and all get it', async (t) => {
      const chat = await newChat()
      const turn = aTurn(chat)
      const stored = await Promise.all(times(30, () => store().appendTurn(turn)))
      t.equal(stored.filter(({ created }) => created).length, 1)
      const messages = await store().listMessages(chat.id, 100)
      t.strictSame(messages, [
        { ...turn.message, seq: 1 },
        { ...turn.reply, seq: 2 },
      ])
      for (const { message, reply } of stored) t.strictSame([message, reply], messages)
    })

    t.test('of one chat at once take every seq from 1 without a gap', async (t) => {
      const chat = await newChat()
      const turns = times(12, (i) => aTurn(chat, { content: `turn ${i}` }))
      const stored = await Promise.all(turns.map((turn) => store().appendTurn(turn)))
      for (const [i, { message, reply, created }] of stored.entries()) {
        t.strictSame(message, { ...turns[i]?.message, seq: message.seq })
        t.strictSame(reply, { ...turns[i]?.reply, seq: message.seq + 1 }, 'the reply comes next')
        t.equal(created, true)
      }
      const seqs = (await store().listMessages(chat.id, 100)).map(({ seq }) => seq)
      t.strictSame(
        seqs,
        times(24, (i) => i + 1),
      )
      t.equal((await store().findChat(chat.userId, chat.id))?.messageCount, 24)
    })

    t.test('that race their chat’s deletion leave no message behind', async (t) => {
      for (const _ of times(5, () => 0)) {
        const chat = await newChat()
        const appends = times(10, () => store().appendTurn(aTurn(chat)))
        const deletion = store().deleteChat(chat.userId, chat.id)
        const { codes } = await outcomes([
          ...appends,
          ...times(5, () => store().appendTurn(aTurn(chat))),
        ])
        t.ok(
          codes.every((code) => code === 'CHAT_NOT_FOUND'),
          `${codes}`,
        )
        t.equal(await deletion, true)
        t.strictSame(await store().listMessages(chat.id, 100), [])
      }
    })
  })

  t.test('turns that race their user’s deletion leave no message behind', async (t) => {
    for (const _ of times(5, () => 0)) {
      const user = aUser()
      await store().createUser(user)
      const chat = await newChat({ userId: user.id })
      const appends = times(10, () => store().appendTurn(aTurn(chat)))
      const deletion = store().deleteUser(user.id)
      const { codes } = await outcomes([
        ...appends,
        ...times(5, () => store().appendTurn(aTurn(chat))),
      ])
      t.ok(
        codes.every((code) => code === 'CHAT_NOT_FOUND'),
        `${codes}`,
      )
      t.equal(await deletion, true)
      t.strictSame(await store().listMessages(chat.id, 100), [])
      t.equal(await store().findChat(user.id, chat.id), undefined)
    }
  })

  t.test('messages are listed in order, page by page, each once', async (t) => {
    const chat = await newChat()
    for (const i of times(12, (index) => index))
      await store().appendTurn(aTurn(chat, { content: `${i}` }))
    for (const limit of [1, 7, 24, 100]) {
      const seen: number[] = []
      let before: number | undefined
      do {
        const rows = await store().listMessages(chat.id, limit, before)
        const page = rows.map(({ seq }) => seq)
        t.strictSame(
          await store().listTexts(chat.id, limit, before ?? 25),
          rows.map(({ seq, role, content }) => ({ seq, role, content })),
        )
        seen.unshift(...page)
        before = page.length === limit ? page[0] : undefined
      } while (before !== undefined)
      t.strictSame(
        seen,
        times(24, (i) => i + 1),
        `pages of ${limit}`,
      )
    }
    t.strictSame(await store().listMessages(newId(), 10), [])
    t.strictSame(await store().listTexts(newId(), 10, 100), [])
  })
}
