import type { Test } from 'tap'
import { newId } from '../../../src/ids.js'
import type { ChatRow } from '../../../src/stores/store.js'
import { aTurn } from '../rows.js'
import { hardText, type Subject, times } from './subject.js'

/** Chats. */
export function chatContract(t: Test, { newChat, store }: Subject) {
  t.test('chats', async (t) => {
    t.test('are found whole by their owner, and by nobody else', async (t) => {
      const bare = await newChat()
      const full = await newChat({
        title: hardText,
        model: 'llama3.2:1b',
        system: hardText,
        options: { temperature: 0.1, top_p: 0.95, stop: ['\n\n', '漢'] },
      })
      t.strictSame(await store().findChat(bare.userId, bare.id), bare)
      t.strictSame(await store().findChat(full.userId, full.id), full)
      t.equal(await store().findChat(newId(), full.id), undefined)
      t.equal(await store().findChat(full.userId, newId()), undefined)
    })

    t.test('are changed where the patch says so', async (t) => {
      const chat = await newChat({ title: 'A', system: 'Be brief.', options: { seed: 1 } })
      const now = new Date(2_000)
      const renamed = await store().updateChat(chat.userId, chat.id, { title: 'B' }, now)
      t.strictSame(renamed, { ...chat, title: 'B', updatedAt: now })
      const patch = { model: 'm', system: '', options: { num_predict: 5 } }
      const changed = await store().updateChat(chat.userId, chat.id, patch, now)
      t.strictSame(changed, { ...chat, title: 'B', ...patch, updatedAt: now })
      t.strictSame(await store().findChat(chat.userId, chat.id), changed)
      const early = await store().updateChat(chat.userId, chat.id, { title: null }, new Date(0))
      t.strictSame(early, { ...changed, title: null }, 'activity never goes back')
      const reset = await store().updateChat(
        chat.userId,
        chat.id,
        { model: null, system: null, options: null },
        now,
      )
      const { system: _, options: __, ...bare } = chat
      t.strictSame(reset, { ...bare, title: null, updatedAt: now }, 'null resets a field')
      t.strictSame(await store().findChat(chat.userId, chat.id), reset)
      t.equal(await store().updateChat(newId(), chat.id, { title: 'C' }, now), undefined)
      t.equal(await store().updateChat(chat.userId, newId(), { title: 'C' }, now), undefined)
    })

    t.test('are counted for their user', async (t) => {
      const { userId } = await newChat({ title: 'another user’s' })
      const own = newId()
      t.equal(await store().countChats(own), 0)
      for (const title of ['a', 'b', 'c']) await newChat({ userId: own, title })
      t.equal(await store().countChats(own), 3)
      t.equal(await store().countChats(userId), 1)
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
          const page: ChatRow[] = await store().listChats(userId, limit, after)
          t.ok(page.length <= limit)
          seen.push(...page.map(({ id }) => id))
          after = page.length === limit ? page.at(-1) : undefined
        } while (after)
        t.strictSame(seen, expected, `pages of ${limit}`)
      }
      t.strictSame(await store().listChats(newId(), 10), [])
      const [first] = await store().listChats(userId, 1)
      t.match(chats[0], first ?? t.fail('a list is empty'), 'a row of the list is of its chat')
    })

    t.test('are deleted with their messages, by their owner only', async (t) => {
      const [chat, other] = [await newChat(), await newChat()]
      const turn = await store().appendTurn(aTurn(chat))
      const kept = await store().appendTurn(aTurn(other))
      t.equal(await store().deleteChat(newId(), chat.id), false)
      t.equal((await store().listMessages(chat.id, 10)).length, 2)
      t.equal(await store().deleteChat(chat.userId, chat.id), true)
      t.equal(await store().deleteChat(chat.userId, chat.id), false)
      t.equal(await store().findChat(chat.userId, chat.id), undefined)
      t.strictSame(await store().listChats(chat.userId, 10), [])
      t.strictSame(await store().listMessages(chat.id, 10), [])
      t.strictSame(await store().listActiveReplies(chat.id), [])
      t.equal(await store().findTurn(chat.userId, turn.message.id), undefined)
      t.equal(await store().updateReply(turn.reply.id, { status: ['queued'] }, {}), undefined)
      await t.rejects(store().appendTurn(aTurn(chat)), { code: 'CHAT_NOT_FOUND' })
      t.strictSame(await store().listMessages(other.id, 10), [kept.message, kept.reply])
    })
  })
}
