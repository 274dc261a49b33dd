import { Caller } from './caller.js'
import { Ledger } from './ledger.js'
import { MortalServer, startStandInProcess } from './processes.js'
import { checkBytes, readOverSse, SocketReader } from './readers.js'
import { pick, type Settings, type Trial } from './trial.js'

const chatsAtOnce = 6
const readersEach = 3
const repliesPerChat = 10
const progressEvery = 1000

/**
 * Readers over sockets and over SSE drop and rejoin at random offsets while replies full of emoji,
 * combining marks and CJK are told: the text of each is in the end byte-equal to the stored one
 * and to what the model sent, and never meanwhile anything but its beginning.
 */
export async function disconnects(trial: Trial, count: number, settings: Settings): Promise<void> {
  const server = await MortalServer.start(trial, {
    OLLAMA_API_URL: await startStandInProcess(trial),
    OLLAMA_MAX_CONCURRENT: `${chatsAtOnce}`,
    ...settings,
  })
  let done = 0
  const disconnect = () => {
    if (done >= count) return false
    done += 1
    trial.count('disconnects')
    if (done % progressEvery === 0) trial.progress(done, count)
    return true
  }

  async function worker(): Promise<void> {
    const caller = await Caller.register(trial, server.url)
    while (done < count) await converse(trial, caller, disconnect, () => done < count)
  }
  await Promise.all(Array.from({ length: chatsAtOnce }, worker))
  await server.end()
}

/** One chat, from its first message until there are enough. */
async function converse(
  trial: Trial,
  caller: Caller,
  disconnect: () => boolean,
  goesOn: () => boolean,
): Promise<void> {
  const random = trial.fork()
  const ledger = new Ledger(trial, await caller.newChat())
  const { chatId } = ledger
  const sockets = Array.from(
    { length: readersEach },
    () => new SocketReader(trial, caller, chatId, ledger),
  )
  for (let replies = 0; replies < repliesPerChat && goesOn(); replies += 1) {
    await Promise.all(sockets.map((socket) => socket.joined()))
    const [length, rate] = pick(random, [
      [2000, 400],
      [6000, 1000],
      [20_000, 4000],
      // More than a reader that stalls can be sent.
      [300_000, 40_000],
      [300_000, 0],
    ])
    const content = `n=${trial.serial()} len=${length} rate=${rate} think=${random.upTo(400)}`
    const key = `key-${trial.serial()}`
    const entry = ledger.plan(content, key)
    const sent = await caller.send('async', { chatId, content, key })
    trial.check(!sent.refused, 'a message was refused', { sent })
    ledger.acknowledge(entry, sent)
    const { replyId } = sent
    const readings = await Promise.all([
      ...sockets.map((socket) => socket.read(entry, replyId, disconnect)),
      ...sockets.map(() => readOverSse(trial, caller, ledger, replyId, disconnect)),
    ])
    const stored = (await caller.read(chatId)).find(({ id }) => id === replyId)
    trial.check(stored !== undefined, 'a reply is gone', { replyId })
    for (const reply of readings) checkBytes(trial, entry, stored, reply)
  }
  ledger.verify(await caller.read(chatId))
  for (const socket of sockets) socket.close()
}
