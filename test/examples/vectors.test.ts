import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { eventually, patienceMs } from '../services/eventually.js'
import { type StepOf, type Vector, vectorFiles } from '../web/client/vectors.js'

const root = join(import.meta.dirname, '../../..')

interface FollowedReply {
  text: string
  thinking: string
  status: string
  position: number | null
}

/** The class of examples/node/chat-follower.js. */
interface ChatFollower {
  replies: Map<string, FollowedReply>
  onConnect(): void
  onDisconnect(): void
  onEvent(name: string, payload: object): void
}

interface Hooks {
  join: (payload: object) => Promise<unknown>
  show: () => void
  refuse: (error: { code: string }) => void
}

const example = join(root, 'examples/node/chat-follower.js')
const { ChatFollower } = (await import(example)) as {
  ChatFollower: new (chatId: string, hooks: Hooks) => ChatFollower
}

const unknownReply: FollowedReply = { text: '', thinking: '', status: 'queued', position: null }

async function play(
  t: { strictSame(found: unknown, wanted: unknown, at: string): unknown },
  { chatId, steps }: Vector,
): Promise<void> {
  const joins: { payload: object; answer: (answer: unknown) => void }[] = []
  const refusals: string[] = []
  const follower = new ChatFollower(chatId, {
    join: (payload) => new Promise((answer) => joins.push({ payload, answer })),
    show: () => {},
    refuse: ({ code }) => refusals.push(code),
  })
  /** What an answer leads to is done in microtasks. */
  const settled = () => new Promise((resolve) => setImmediate(resolve))
  let answer: (answer: StepOf<'ack'>['answer']) => void = () => {}
  for (const [index, step] of steps.entries()) {
    const at = `step ${index}, ${step.step}`
    if (step.step === 'connect') follower.onConnect()
    else if (step.step === 'disconnect') follower.onDisconnect()
    else if (step.step === 'event') follower.onEvent(step.event, step.payload)
    else if (step.step === 'ack') answer(step.answer)
    else if (step.step === 'refused') t.strictSame(refusals.shift(), step.code, at)
    else if (step.step === 'join') {
      await eventually(at, () => joins.length > 0)
      const asked = joins.shift()
      t.strictSame(asked?.payload, step.payload, at)
      answer = asked?.answer ?? answer
    } else if (step.step === 'expect') {
      const { step: _, messageId, ...wanted } = step
      const shown = follower.replies.get(messageId) ?? unknownReply
      const { text, thinking, status, position } = shown
      const found = { text, thinking, status, ...('position' in wanted && { position }) }
      t.strictSame(found, wanted, at)
    }
    await settled()
  }
  t.strictSame(joins, [], 'no other join')
  t.strictSame(refusals, [], 'no other refusal')
}

t.test('the Node example follows the vectors', async (t) => {
  for (const { name, vectors } of vectorFiles) {
    for (const vector of vectors.filter(({ transport }) => transport === 'socket')) {
      await t.test(`${name}: ${vector.name}`, (t) => play(t, vector))
    }
  }
})

t.test('the Python example follows the vectors', async (t) => {
  const folder = join(root, 'docs/vectors')
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'))
  const player = join(root, 'test/examples/play-vectors.py')
  const { stdout } = await promisify(execFile)(
    'python3',
    ['-B', player, ...files.map((name) => join(folder, name))],
    { env: { ...process.env, PYTHONPATH: join(root, 'examples/python') }, timeout: patienceMs },
  )
  const { played, faults } = JSON.parse(stdout)
  t.same(faults, [])
  t.equal(
    played,
    vectorFiles.flatMap(({ vectors }) => vectors).filter(({ transport }) => transport === 'socket')
      .length,
  )
})
