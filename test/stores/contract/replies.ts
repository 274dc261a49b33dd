import type { Test } from 'tap'
import { newId } from '../../../src/ids.js'
import { aTurn } from '../rows.js'
import { hardText, type Subject, times } from './subject.js'

/** What a reply goes through until it has ended, and after its owner died. */
export function replyContract(t: Test, { newChat, store }: Subject) {
  t.test('replies', async (t) => {
    t.test('are active until they end', async (t) => {
      const chat = await newChat()
      const [first, second] = [
        await store().appendTurn(aTurn(chat)),
        await store().appendTurn(aTurn(chat)),
      ]
      t.strictSame(await store().listActiveReplies(chat.id), [first.reply, second.reply])
      const usage = { messagesSent: 2, messagesDropped: 0, replyTokens: 3, tokensPerSecond: 12.75 }
      const ended = await store().updateReply(
        first.reply.id,
        { status: ['queued', 'streaming'], epoch: 1, owner: 'process-a' },
        {
          status: 'complete',
          content: hardText,
          thinking: hardText,
          finishReason: 'length',
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
        finishReason: 'length',
        usage,
        completedAt: new Date(6_000),
      })
      t.strictSame(await store().findMessage(chat.userId, chat.id, first.reply.id), ended)
      t.strictSame(await store().listActiveReplies(chat.id), [second.reply])
      const elsewhere = await newChat({ userId: chat.userId })
      const { reply } = await store().appendTurn(aTurn(elsewhere))
      await store().appendTurn(aTurn(await newChat()))
      const ofUser = await store().listActiveRepliesOf(chat.userId)
      t.strictSame(new Set(ofUser.map(({ id }) => id)), new Set([second.reply.id, reply.id]))
      t.strictSame(
        ofUser.find(({ id }) => id === reply.id),
        reply,
      )
    })

    t.test('change only while status, epoch and owner hold', async (t) => {
      const chat = await newChat()
      const { reply } = await store().appendTurn(aTurn(chat))
      const change = { content: 'late' }
      for (const condition of [
        { status: [] },
        { status: ['streaming'] },
        { status: ['queued'], epoch: 2 },
        { status: ['queued'], owner: 'process-b' },
        { status: ['queued'], owner: null },
      ] as const) {
        t.equal(await store().updateReply(reply.id, condition, change), undefined)
      }
      t.equal(await store().updateReply(newId(), { status: ['queued'] }, change), undefined)
      t.strictSame(await store().findMessage(chat.userId, chat.id, reply.id), reply)

      const released = await store().updateReply(reply.id, { status: ['queued'] }, { owner: null })
      t.equal(released?.owner, undefined)
      t.strictSame(released?.leaseUntil, reply.leaseUntil)
      const taken = await store().updateReply(
        reply.id,
        { status: ['queued'], owner: null },
        { status: 'streaming', owner: 'process-b', epoch: 2, epochStart: 4, takeovers: 1 },
      )
      t.match(taken, { status: 'streaming', owner: 'process-b', epoch: 2, epochStart: 4 })
      const error = { code: 'MODEL_CUT', message: 'Cut.' }
      const cut = { status: 'error', error, thinking: null } as const
      t.match(await store().updateReply(reply.id, { status: ['streaming'] }, cut), { error })
    })

    t.test('of 50 that would end one at once, exactly one does', async (t) => {
      const chat = await newChat()
      const { reply } = await store().appendTurn(aTurn(chat))
      const ends = await Promise.all(
        times(50, (i) =>
          store().updateReply(
            reply.id,
            { status: ['queued', 'streaming'], epoch: 1 },
            { status: 'stopped', content: `by ${i}`, owner: null, leaseUntil: null },
          ),
        ),
      )
      const won = ends.filter((row) => row !== undefined)
      t.equal(won.length, 1)
      t.strictSame(await store().findMessage(chat.userId, chat.id, reply.id), won[0])
    })

    t.test('are checkpointed while held, and the lost ones told', async (t) => {
      const chat = await newChat()
      const replies = []
      for (const owner of ['process-a', 'process-a', 'process-b']) {
        const { reply } = await store().appendTurn(aTurn(chat, { owner }))
        await store().updateReply(reply.id, { status: ['queued'] }, { status: 'streaming' })
        replies.push(reply)
      }
      const { reply: queued } = await store().appendTurn(aTurn(chat))
      const [held, older, others] = replies
      if (!held || !older || !others) return t.fail('three replies were made')
      const save = ({ id }: { id: string }, epoch = 1) => ({
        id,
        owner: 'process-a',
        epoch,
        content: hardText,
      })
      const lost = await store().checkpoint([
        { ...save(held), thinking: 'Hm.' },
        save(older, 2),
        save(others),
        save(queued),
        save({ id: newId() }),
      ])
      t.strictSame(lost.slice(0, 3), [older.id, others.id, queued.id])
      t.equal(lost.length, 4)
      t.strictSame(await store().checkpoint([save(held)]), [])
      t.strictSame(await store().checkpoint([save(held)]), [], 'equal text is stored as well')
      t.strictSame(await store().checkpoint([]), [])
      const texts = (await store().listActiveReplies(chat.id)).map(({ content }) => content)
      t.strictSame(texts, [hardText, '', '', ''])
      t.equal((await store().findMessage(chat.userId, chat.id, held.id))?.thinking, 'Hm.')
    })

    t.test('lapse when their lease is over, and not when it was renewed', async (t) => {
      const chat = await newChat()
      const owner = `process-${newId()}`
      const leaseUntil = new Date(10_000)
      const mine = await store().appendTurn(aTurn(chat, { owner, leaseUntil }))
      const ended = await store().appendTurn(aTurn(chat, { owner, leaseUntil }))
      const other = await store().appendTurn(aTurn(chat, { owner: newId(), leaseUntil }))
      const end = { status: 'stopped', owner: null, leaseUntil: null } as const
      await store().updateReply(ended.reply.id, { status: ['queued'] }, end)
      const lapsed = async (now: number) =>
        (await store().findLapsedReplies(new Date(now), 1_000)).filter(
          ({ chatId }) => chatId === chat.id,
        )
      t.strictSame(await lapsed(9_999), [])
      t.strictSame(await lapsed(10_000), [mine.reply, other.reply])
      t.equal((await store().findLapsedReplies(new Date(10_000), 1)).length, 1)

      const later = new Date(20_000)
      await store().renewLeases(owner, later)
      t.strictSame(await lapsed(10_000), [other.reply])
      t.strictSame(await lapsed(20_000), [{ ...mine.reply, leaseUntil: later }, other.reply])
      const messages = await store().listMessages(chat.id, 10)
      const untouched = messages.find(({ id }) => id === ended.reply.id)
      t.equal(untouched?.leaseUntil, undefined, 'a reply that ended gets no lease')
      await store().deleteChat(chat.userId, chat.id)
    })
  })
}
