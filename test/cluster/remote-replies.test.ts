import t from 'tap'
import { RemoteReply } from '../../src/cluster/remote-reply.js'
import { newId } from '../../src/ids.js'
import { ChatEvents } from '../../src/reply/chat-events.js'
import { presentMessage } from '../../src/reply/present.js'
import type { MessageRow } from '../../src/stores/store.js'

const row: MessageRow = {
  id: newId(),
  chatId: newId(),
  userId: newId(),
  seq: 2,
  role: 'assistant',
  content: '',
  thinking: 'of the first run',
  status: 'streaming',
  createdAt: new Date(),
  epoch: 1,
  epochStart: 0,
  takeovers: 0,
}

/** Has told nothing to others, nor heard of them: it is not followed. */
const followed = (row: MessageRow) =>
  new RemoteReply(row, {
    chatEvents: new ChatEvents({ error: ({ err }) => t.error(err) }),
    bus: undefined as never,
    streamLog: undefined as never,
  })

t.test('a reply that another run ended without thinking has none of an earlier run', async (t) => {
  const remoteReply = followed(row)
  const { thinking: _, ...ended } = { ...row, epoch: 2, status: 'stopped' as const }
  remoteReply.end(presentMessage(ended))
  t.match(await remoteReply.reply.end, { status: 'stopped', content: '' })
  t.equal(remoteReply.reply.row.thinking, undefined)
})

t.test('the end’s own thinking is kept', async (t) => {
  const remoteReply = followed(row)
  remoteReply.end(presentMessage({ ...row, content: 'so', status: 'complete' }))
  t.match(await remoteReply.reply.end, {
    status: 'complete',
    content: 'so',
    thinking: row.thinking,
  })
})

t.test('a reply that ended elsewhere is told as it was told there, with every field', async (t) => {
  const ended = presentMessage({
    ...row,
    content: 'so',
    status: 'complete',
    finishReason: 'length',
    model: 'a-model',
    usage: { contextLength: 4096, messagesSent: 1, messagesDropped: 0 },
    error: { code: 'MODEL_FAILED', message: 'It failed.' },
    completedAt: new Date(),
  })
  const remoteReply = followed(row)
  remoteReply.end(ended)
  const told = await remoteReply.reply.end
  t.same(told && presentMessage(told), ended)
})
