import { readFileSync } from 'node:fs'
import t from 'tap'
import type { MessageStatus } from '../../schemas/messages.js'
import { HeldReplies } from '../../src/reply/held-replies.js'
import { ReplyState } from '../../src/reply/reply-state.js'
import type { MessageRow } from '../../src/stores/store.js'
import { embedded, startApp } from '../services/app.js'
import { aChat, aTurn } from '../stores/rows.js'

const statuses = ['queued', 'streaming', 'complete', 'stopped', 'interrupted', 'error'] as const
const ends = ['complete', 'stopped', 'interrupted', 'error'] as const
const text = { content: 'So far', thinking: '', tokens: { kept: 1, discarded: 0 } }

/** The arrows of the diagram in docs/architecture.md between two states, as "from --> to: event". */
function drawnArrows(): string[] {
  const document = readFileSync('docs/architecture.md', 'utf8')
  const [, diagram = ''] = /```mermaid\nstateDiagram-v2\n(.*?)```/s.exec(document) ?? []
  return diagram
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.includes('[*]'))
}

const stores = {
  SQLite: { settings: embedded, skip: false },
  MongoDB: { settings: {}, skip: !process.env.MONGODB_URI && 'MONGODB_URI is not set' },
} as const

for (const [name, { settings, skip }] of Object.entries(stores)) {
  t.test(
    `a reply moves along the arrows of the diagram and no others, in ${name}`,
    {
      skip,
    },
    async (t) => {
      const { app } = await startApp(t, { LEASE_MS: '600000', ...settings })
      const { store, cache } = app
      const state = new ReplyState({
        ...{ store, cache, owner: 'here', leaseMs: 1000, held: new HeldReplies() },
        streamLog: undefined,
      })
      const chat = aChat()
      await store.createChat(chat)

      /** A reply of this process in a state. */
      async function replyIn(status: MessageStatus): Promise<MessageRow> {
        const leaseUntil = new Date(9e12)
        const { reply } = await store.appendTurn(aTurn(chat, { owner: 'here', leaseUntil }))
        const hasEnded = status !== 'queued' && status !== 'streaming'
        const row = await store.updateReply(
          reply.id,
          { status: ['queued'] },
          { status, ...(hasEnded && { owner: null, leaseUntil: null }) },
        )
        if (!row) throw new Error('the reply was not stored')
        return row
      }

      type Move = (row: MessageRow) => Promise<MessageRow | undefined>
      const moves: [event: string, move: Move][] = [
        ['begin', (row) => state.begin(row)],
        ['claim', (row) => state.claim(row, text)],
        ['release', (row) => state.release(row, text)],
        ['end', (row) => state.endLapsed(row, { status: 'interrupted' })],
      ]
      for (const status of ends) {
        moves.push(['end', (row) => state.end(row, { status }, row.owner ?? null)])
      }
      const seen = new Set<string>()
      for (const from of statuses) {
        for (const [event, move] of moves) {
          const row = await replyIn(from)
          const moved = await move(row)
          if (moved) seen.add(`${from} --> ${moved.status}: ${event}`)
          const stored = await store.findMessage(row.userId, row.chatId, row.id)
          t.match(stored, { status: (moved ?? row).status, owner: (moved ?? row).owner })
        }
      }
      t.strictSame([...seen].sort(), drawnArrows().sort())
    },
  )
}
