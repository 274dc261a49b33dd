import type { Test } from 'tap'
import { newId } from '../../../src/ids.js'
import type { Checkpoint } from '../../../src/stores/store.js'
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

    /** A streaming reply that `owner` holds. */
    const streaming = async (owner = 'process-a') => {
      const chat = await newChat()
      const turn = aTurn(chat, { owner })
      const { message, reply } = await store().appendTurn(turn)
      await store().updateReply(reply.id, { status: ['queued'] }, { status: 'streaming' })
      const find = () => store().findMessage(chat.userId, chat.id, reply.id)
      return { chat, turn, message, id: reply.id, owner, epoch: 1, find }
    }
    type Held = Pick<Checkpoint, 'id' | 'owner' | 'epoch'>
    /** Checkpoints one reply. */
    const add = ({ id, owner, epoch }: Held, content: string, thinking = '', from = [0, 0]) => {
      const [ofContent = 0, ofThinking = 0] = from
      const piece = { from: { content: ofContent, thinking: ofThinking }, content, thinking }
      const tokens = ofContent + content.length
      return store().checkpoint([{ id, owner, epoch, ...piece, tokens }])
    }

    t.test('are checkpointed while held, and the lost ones told', async (t) => {
      const [held, older, others] = [await streaming(), await streaming(), await streaming('b')]
      const { reply: queued } = await store().appendTurn(aTurn(await newChat()))
      const save = ({ id }: { id: string }, epoch = 1) => ({
        ...{ id, owner: 'process-a', epoch, content: hardText, thinking: '' },
        ...{ from: { content: 0, thinking: 0 }, tokens: 1 },
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
      t.strictSame(await store().checkpoint([]), [])
      t.match(await held.find(), { content: hardText, thinking: 'Hm.' })
      for (const { find } of [older, others]) t.match(await find(), { content: '' })
    })

    t.test('are told lost or held by a checkpoint without text, too', async (t) => {
      const held = await streaming()
      t.strictSame(await add(held, ''), [])
      t.strictSame(await add({ ...held, epoch: 2 }, ''), [held.id])
      t.match(await held.find(), { content: '', thinking: undefined })
    })

    t.test('grow by what each checkpoint brings, by whichever way they are read', async (t) => {
      const reply = await streaming()
      const half = hardText.length
      await add(reply, '', 'Hm')
      await add(reply, hardText, '.', [0, 2])
      await add(reply, hardText, '', [half, 3])
      const tokens = { kept: half * 2, discarded: 0 }
      const text = { content: hardText + hardText, thinking: 'Hm.', tokens }
      const { chat, message, turn, id } = reply
      t.match(await reply.find(), text)
      t.match(await store().listMessages(chat.id, 10), [{ id: message.id }, text])
      t.match(await store().listActiveReplies(chat.id), [text])
      t.match(await store().listActiveRepliesOf(chat.userId), [text])
      t.match(await store().findTurn(chat.userId, message.id), { reply: text })
      t.match(await store().appendTurn(turn), { created: false, reply: text })
      t.match(await store().listTexts(chat.id, 1, 10), [{ content: text.content }])
      await store().updateReply(id, { status: ['streaming'] }, { leaseUntil: new Date(1) })
      const lapsed = await store().findLapsedReplies(new Date(1), 1_000)
      t.match(
        lapsed.find((row) => row.id === id),
        text,
      )
    })

    t.test('take a piece once that is stored again, or longer, from the same place', async (t) => {
      const reply = await streaming()
      await add(reply, 'One', 'I')
      await add(reply, 'One two', 'I think')
      await add(reply, ' three', '', [7, 7])
      await add(reply, 'One', 'I')
      const tokens = { kept: 13, discarded: 0 }
      t.match(await reply.find(), { content: 'One two three', thinking: 'I think', tokens })
    })

    t.test('begin a new epoch with the text that it is given', async (t) => {
      const reply = await streaming()
      await add(reply, 'One two', 'Thought')
      const claimed = await store().updateReply(
        reply.id,
        { status: ['streaming'], epoch: 1, owner: reply.owner },
        { epoch: 2, epochStart: 3, owner: 'process-b', content: 'One', thinking: null },
      )
      t.match(claimed, { content: 'One', thinking: undefined })
      t.strictSame(await add(reply, ' three', '', [7, 7]), [reply.id], 'of the epoch before')
      t.strictSame(await add({ ...reply, owner: 'process-b', epoch: 2 }, ' more', '', [3, 0]), [])
      t.match(await reply.find(), { content: 'One more', thinking: undefined })
    })

    t.test('keep what was checkpointed when they change without a text', async (t) => {
      const reply = await streaming()
      await add(reply, 'One', 'Hm.')
      const text = { content: 'One', thinking: 'Hm.' }
      const held = { status: ['streaming'], owner: reply.owner } as const
      t.match(await store().updateReply(reply.id, held, { leaseUntil: new Date(9e12) }), text)
      await add(reply, ' two', '', [3, 3])
      const end = { status: 'stopped', owner: null, leaseUntil: null } as const
      t.match(await store().updateReply(reply.id, held, end), { ...text, content: 'One two' })
      t.match(await reply.find(), { status: 'stopped', ...text, content: 'One two' })
      t.strictSame(await add(reply, ' three', '', [7, 3]), [reply.id])
    })

    t.test('lapse when their lease is over, and not when it was renewed', async (t) => {
      const chat = await newChat()
      const owner = `process-${newId()}`
      const leaseUntil = new Date(10_000)
      const mine = await store().appendTurn(aTurn(chat, { owner, leaseUntil }))
      const ended = await store().appendTurn(aTurn(chat, { owner, leaseUntil }))
      const unnamed = await store().appendTurn(aTurn(chat, { owner, leaseUntil }))
      const other = await store().appendTurn(aTurn(chat, { owner: newId(), leaseUntil }))
      const missing = newId()
      const end = { status: 'stopped', owner: null, leaseUntil: null } as const
      await store().updateReply(ended.reply.id, { status: ['queued'] }, end)
      const lapsed = async (now: number) =>
        (await store().findLapsedReplies(new Date(now), 1_000)).filter(
          ({ chatId }) => chatId === chat.id,
        )
      t.strictSame(await lapsed(9_999), [])
      t.strictSame(await lapsed(10_000), [mine.reply, unnamed.reply, other.reply])
      t.equal((await store().findLapsedReplies(new Date(10_000), 1)).length, 1)

      const later = new Date(20_000)
      const ids = [mine, ended, other].map(({ reply }) => reply.id)
      const lost = await store().renewLeases(owner, [...ids, missing], later)
      t.strictSame(lost, [ended.reply.id, other.reply.id, missing])
      t.strictSame(await store().renewLeases(owner, [mine.reply.id], new Date(15_000)), [])
      t.strictSame(await store().renewLeases(owner, [], later), [])
      t.strictSame(await lapsed(10_000), [unnamed.reply, other.reply])
      const [held, ...others] = await lapsed(20_000)
      t.strictSame(held, { ...mine.reply, leaseUntil: later }, 'no lease gets shorter')
      t.strictSame(others, [unnamed.reply, other.reply])
      const messages = await store().listMessages(chat.id, 10)
      const untouched = messages.find(({ id }) => id === ended.reply.id)
      t.equal(untouched?.leaseUntil, undefined, 'a reply that ended gets no lease')
      await store().deleteChat(chat.userId, chat.id)
    })

    t.test('lapse in the order in which they were made, over all chats', async (t) => {
      const chat = await newChat()
      const elsewhere = await newChat()
      const leaseUntil = new Date(10_000)
      /** A turn whose reply was made at `ms`. */
      const madeAt = async (ms: number, of = chat) => {
        const turn = aTurn(of, { leaseUntil })
        return store().appendTurn({ ...turn, reply: { ...turn.reply, createdAt: new Date(ms) } })
      }
      // Neither their places nor the order of storing is that of making.
      const [third, first, fourth] = [await madeAt(3_000), await madeAt(1_000), await madeAt(3_000)]
      const second = await madeAt(2_000, elsewhere)
      const lapsed = await store().findLapsedReplies(leaseUntil, 1_000)
      const made = [third, first, fourth, second].map(({ reply }) => reply.id)
      t.strictSame(
        lapsed.map(({ id }) => id).filter((id) => made.includes(id)),
        [first, second, third, fourth].map(({ reply }) => reply.id),
      )
      for (const { id, userId } of [chat, elsewhere]) await store().deleteChat(userId, id)
    })

    t.test('change only while the lease that was found is not renewed', async (t) => {
      const chat = await newChat()
      const { reply } = await store().appendTurn(aTurn(chat, { leaseUntil: new Date(10_000) }))
      const { owner = '', leaseUntil = new Date(), epoch } = reply
      const found = { status: ['queued'], epoch, owner, leaseUntil } as const
      const change = { owner: 'process-b', leaseUntil: new Date(30_000) }
      await store().renewLeases(owner, [reply.id], new Date(20_000))
      t.equal(await store().updateReply(reply.id, found, change), undefined)
      const renewed = { ...found, leaseUntil: new Date(20_000) }
      t.match(await store().updateReply(reply.id, renewed, change), change)
      await store().deleteChat(chat.userId, chat.id)
    })

    t.test('tell of the lease that ends first, until they end', async (t) => {
      const chat = await newChat()
      // Before any that other tests left.
      const leaseUntil = new Date(-1_000)
      const { reply } = await store().appendTurn(aTurn(chat, { leaseUntil }))
      t.strictSame(await store().firstLeaseEnd(), leaseUntil)
      const end = { status: 'stopped', owner: null, leaseUntil: null } as const
      await store().updateReply(reply.id, { status: ['queued'] }, end)
      t.notSame(await store().firstLeaseEnd(), leaseUntil)
    })
  })
}
