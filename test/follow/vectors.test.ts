import t from 'tap'
import type { MessageChunk } from '../../schemas/messages.js'
import { noCluster } from '../../src/cluster/cluster.js'
import { followEnded, followLive, type Position } from '../../src/follow/follow.js'
import { ReplyReader } from '../../src/follow/reply-reader.js'
import { HeldReplies } from '../../src/reply/held-replies.js'
import { hasEnded, LiveReply } from '../../src/reply/live-reply.js'
import type { MessageRow } from '../../src/stores/store.js'
import { chatId, ModelReply, messageId, randomFrom } from '../web/client/model-reply.js'
import { type ServerReply, type StepOf, type Vector, vectorFiles } from '../web/client/vectors.js'

const userId = 'f'.repeat(24)

const rowOf = (chatId: string, { messageId, text, position: _, ...fields }: ServerReply) =>
  ({
    ...fields,
    id: messageId,
    chatId,
    userId,
    seq: 2,
    role: 'assistant',
    content: text,
    createdAt: new Date(0),
    takeovers: 0,
  }) satisfies MessageRow

function liveOf(row: MessageRow, { text, thinking = '', position }: ServerReply): LiveReply {
  const reply = new LiveReply(row, { content: text, thinking })
  if (position !== undefined) reply.waitAt({ position })
  return reply
}

/** What this server answers to a join while it has the replies of `server`. */
async function answerTo({ payload }: StepOf<'join'>, server: readonly ServerReply[]) {
  const { chatId, ...asked } = payload
  const held = new HeldReplies()
  const rows = server.map((reply) => rowOf(chatId, reply))
  for (const [index, reply] of server.entries()) {
    const row = rows[index]
    if (row && !hasEnded(row)) held.hold(liveOf(row, reply))
  }
  const store = {
    findMessage: async (_userId: string, _chatId: string, id: string) =>
      rows.find((row) => row.id === id),
    listActiveReplies: async () => rows.filter((row) => !hasEnded(row)),
  }
  const reader = new ReplyReader({ store, held, cluster: noCluster })
  return (await reader.activeReplies(userId, chatId, asked))()
}

/** What this server's stream gives at once to who asks with `lastEventId`. */
async function streamOf(chatId: string, server: ServerReply, lastEventId: string | null) {
  const [, epoch, offset] = (lastEventId ?? '').split(':')
  const position: Position = lastEventId ? { epoch: Number(epoch), offset: Number(offset) } : {}
  const row = rowOf(chatId, server)
  const gone = new AbortController()
  const events = hasEnded(row)
    ? followEnded(row, position)
    : followLive(liveOf(row, server), position, gone.signal)
  setImmediate(() => gone.abort())
  const given = []
  for await (const event of events) given.push(event)
  return given
}

/** The fields of an event that say where a client is. */
const placeOf = ({
  event,
  id,
  payload,
}: {
  event: string
  id?: string | undefined
  payload: object
}) => {
  const { epoch, offset, delta, thinking, status, position, content } = payload as Partial<
    MessageChunk & { status: string; position: number; content: string }
  >
  return {
    event,
    id,
    ...(event === 'message-chunk' && { epoch, offset, delta, thinking }),
    ...(event === 'message-start' && { epoch, status, position }),
    ...(event === 'message' && { status, content }),
  }
}

async function checkAnswers(t: Tap, { steps }: Vector) {
  let join: StepOf<'join'> | undefined
  for (const [index, step] of steps.entries()) {
    if (step.step === 'join') join = step
    if (step.step !== 'ack' || !step.answer.ok || !join) continue
    t.strictSame(await answerTo(join, step.server ?? []), step.answer.active, `step ${index}`)
  }
}

async function checkStreams(t: Tap, { chatId, steps }: Vector) {
  let lastEventId: string | null = null
  for (const [index, step] of steps.entries()) {
    if (step.step === 'request') lastEventId = step.lastEventId
    if (step.step !== 'response' || !step.server) continue
    const given = await streamOf(chatId, step.server, lastEventId)
    const wanted = steps.slice(index + 1, index + 1 + given.length)
    t.strictSame(
      given.map(({ event, id, data }) => placeOf({ event, id, payload: data })),
      wanted.map((step) => (step.step === 'event' ? placeOf(step) : step)),
      `step ${index}`,
    )
  }
}

interface Tap {
  strictSame(found: unknown, wanted: unknown, ...message: [string]): unknown
}

for (const { name, vectors } of vectorFiles) {
  t.test(`the server answers as the vectors of ${name} say`, async (t) => {
    for (const vector of vectors) {
      t.test(vector.name, (t) =>
        vector.transport === 'socket' ? checkAnswers(t, vector) : checkStreams(t, vector),
      )
    }
  })
}

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)

t.test(
  `the model of the client’s tests answers joins as the server does (SEED=${seed})`,
  async (t) => {
    const random = randomFrom(seed)
    for (let round = 0; round < 200; round += 1) {
      const model = new ModelReply(random)
      for (let step = random.upTo(20); step >= 0; step -= 1) {
        model.generate()
        if (random.chance(0.2)) model.takeOver()
      }
      const { epoch, epochStart, text, thinking } = model
      const asked = {
        ...(random.chance(0.9) && { epoch: 1 + random.upTo(epoch) }),
        ...(random.chance(0.9) && { offset: random.upTo(text.length + 5) }),
      }
      const server = { messageId, status: 'streaming' as const, epoch, epochStart, text, thinking }
      const join = { step: 'join' as const, payload: { chatId, messageId, ...asked } }
      t.strictSame(await answerTo(join, [server]), [model.join(asked)], JSON.stringify(asked))
    }
  },
)
