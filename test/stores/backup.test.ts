import { execFile } from 'node:child_process'
import { existsSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { SignedIn } from '../../schemas/auth.js'
import type { Chat } from '../../schemas/chats.js'
import type { Message, Turn } from '../../schemas/messages.js'
import { api, outsideServices, startApp, testPassword } from '../services/app.js'
import { startConversation } from '../services/conversation.js'
import { eventually } from '../services/eventually.js'
import { patient, startHolding } from '../services/holding-stand-in.js'
import { standInReply } from '../services/ollama-stand-in.js'

const root = join(import.meta.dirname, '../../..')

interface Teardown {
  teardown(end: () => unknown): unknown
}

/** A folder whose name is its own, as that of a database made of it must be. */
async function newFolder(t: Teardown): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'chat-backup-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))
  return folder
}

/** Runs `npm run backup` or `restore` on the store that tests use for `dataDir`. */
function command(
  script: 'backup' | 'restore',
  dataDir: string,
  args: readonly string[],
  settings: Readonly<Record<string, string>> = outsideServices(dataDir),
) {
  return new Promise<{ status: number; output: string }>((resolve) => {
    const { PATH, HOME } = process.env
    const env = { PATH, HOME, NODE_ENV: 'test', DATA_DIR: dataDir, ...settings }
    execFile('npm', ['run', '-s', script, '--', ...args], { cwd: root, env }, (error, out, err) => {
      resolve({ status: error ? Number(error.code) : 0, output: out + err })
    })
  })
}

/** Sends message after message in chats of their own until `stop`; notes those that were acknowledged. */
function startWriters({ newChat, post }: Awaited<ReturnType<typeof startConversation>>) {
  const acknowledged: Message[] = []
  let isOver = false
  const write = async () => {
    const chatId = await newChat()
    for (let n = 0; !isOver; n += 1) {
      const { status, body } = await post<Turn>(chatId, { content: `len=20 number ${n} 😀` })
      if (status === 202) acknowledged.push(body.message, body.reply)
    }
  }
  const writers = Array.from({ length: 4 }, write)
  return {
    acknowledged,
    async stop() {
      isOver = true
      await Promise.all(writers)
    },
  }
}

t.test(
  'a backup taken while messages are written has all that was acknowledged before',
  async (t) => {
    const dataDir = await newFolder(t)
    const { standIn, letGo } = await startHolding(t)
    const settings = {
      ...patient,
      OLLAMA_API_URL: standIn.url,
      OLLAMA_MAX_CONCURRENT: '8',
      USER_MAX_CONCURRENT: '8',
      USER_QUEUE_MAX: '100000',
    }
    const first = await startConversation(t, { DATA_DIR: dataDir, ...settings })
    const slowChat = await first.newChat({ title: 'Slow' })
    const content = 'len=2500'
    const { reply: slow } = (await first.post<Turn>(slowChat, { content })).body
    const writers = startWriters(first)
    await eventually('messages were acknowledged', () => writers.acknowledged.length >= 100)
    const before = [...writers.acknowledged]
    const backup = join(await newFolder(t), 'a backup')
    const made = await command('backup', dataDir, [backup])
    t.match(made, {
      status: 0,
      output: /^1 users, 5 chats, \d+ messages, 1 sessions: copied from /,
    })
    t.ok(writers.acknowledged.length > before.length, 'the server wrote meanwhile')
    const running = await first.call('GET', `${first.messagesOf(slowChat)}/${slow.id}`)
    t.match(running.body, { status: 'streaming' })
    await writers.stop()
    t.equal(statSync(backup).mode & 0o077, 0, 'nobody else may read it')
    t.notOk(existsSync(`${backup}.partial`))
    await first.close()
    letGo()

    const otherDir = await newFolder(t)
    t.match(await command('restore', otherDir, [backup]), {
      status: 0,
      output: /^1 users, 5 chats/,
    })
    const second = await startApp(t, { DATA_DIR: otherDir, ...settings })
    const { username } = first.user.user
    const login = { username, password: testPassword }
    const { body: signedIn } = await api(second.url)<SignedIn>('POST', '/api/auth/login', login)
    const call = api(second.url, signedIn.token)

    t.test('each message is there, and each reply ends', async (t) => {
      for (const { id, chatId, role, content } of before) {
        const path = `/api/ai/chats/${chatId}/messages/${id}`
        const read = async () => (await call<Message>('GET', path)).body
        if (role === 'user') t.match(await read(), { id, role, content })
        else
          await eventually('the reply has ended', async () => (await read()).status === 'complete')
      }
    })

    t.test('MongoDB has its indexes again', { skip: !second.app.mongo }, async (t) => {
      const indexes = await second.app.mongo.db?.collection('messages').indexes()
      t.strictSame(indexes?.map(({ name }) => name).sort(), [
        '_id_',
        'findLapsedReplies',
        'listActiveReplies',
        'listMessages',
      ])
    })

    t.test('a reply that ran goes on to its end', async (t) => {
      const path = `/api/ai/chats/${slowChat}/messages/${slow.id}`
      const read = async () => (await call<Message>('GET', path)).body
      await eventually('it has ended', async () => (await read()).completedAt !== undefined)
      t.match(await read(), { status: 'complete', content: standInReply(content) })
    })

    t.test('chats go on', async (t) => {
      const { body: chat } = await call<Chat>('GET', `/api/ai/chats/${slowChat}`)
      t.match(chat, { title: 'Slow', messageCount: 2 })
      const [{ chatId = '' } = {}] = before
      const sent = await call<Turn>('POST', `/api/ai/chats/${chatId}/messages`, { content: 'More' })
      t.equal(sent.status, 201)
      const { body } = await call<Chat>('GET', `/api/ai/chats/${chatId}`)
      t.equal(body.messageCount, sent.body.reply.seq)
    })

    t.test('it is put over a store that has users only where that is asked for', async (t) => {
      await second.close()
      const refused = await command('restore', otherDir, [backup])
      t.match(refused, { status: 1, output: /--overwrite/ })
      const replaced = await command('restore', otherDir, [backup, '--overwrite'])
      t.match(replaced, { status: 0, output: /^1 users, 5 chats/ })
      const third = await startApp(t, { DATA_DIR: otherDir, ...settings })
      t.equal((await api(third.url)('POST', '/api/auth/login', login)).status, 200)
      t.match(await api(third.url)('GET', '/health/ready'), { status: 200 })
    })
  },
)

t.test('what cannot be backed up or restored is refused, and says why', async (t) => {
  const { dataDir } = await startConversation(t)
  const folder = await newFolder(t)
  writeFileSync(join(folder, 'taken'), 'text')
  const backup = join(folder, 'backup')
  t.match(await command('backup', dataDir, [join(folder, 'taken')]), {
    status: 1,
    output: /taken is there already/,
  })
  t.match(await command('backup', dataDir, []), { status: 1, output: /npm run backup -- PATH/ })
  t.match(await command('restore', dataDir, [backup, '--force']), {
    output: /npm run restore -- PATH/,
  })
  const nowhere = await command('backup', await newFolder(t), [backup])
  t.match(nowhere, { status: 1, output: /There is no database in|nothing to back up/ })
  t.strictSame(readdirSync(folder), ['taken'], 'nothing is left of what failed')

  await command('backup', dataDir, [backup])
  const empty = await newFolder(t)
  const inFolder = statSync(backup).isDirectory()
  const file = inFolder ? join(backup, 'users.bson') : backup
  truncateSync(file, Math.floor(statSync(file).size * 0.7))
  t.match(await command('restore', empty, [backup]), {
    status: 1,
    output: /damaged|malformed|no backup/,
  })
  t.match(await command('restore', empty, [join(folder, 'none')]), {
    status: 1,
    output: /no file|no folder/,
  })
  const wrongKind = inFolder ? join(backup, 'backup.json') : folder
  t.match(await command('restore', empty, [wrongKind]), { status: 1, output: /set MONGODB_URI/ })
  writeFileSync(join(folder, 'text'), 'not a database')
  t.match(await command('restore', empty, [join(folder, 'text')]), { status: 1, output: /is no / })
})

t.test('SQLite is not restored under a server that runs', async (t) => {
  const dataDir = await newFolder(t)
  const sqlite = { MONGODB_URI: '' }
  const { url } = await startApp(t, { DATA_DIR: dataDir, ...sqlite })
  const backup = join(await newFolder(t), 'backup.db')
  t.equal((await command('backup', dataDir, [backup], sqlite)).status, 0)
  const refused = await command('restore', dataDir, [backup, '--overwrite'], sqlite)
  t.match(refused, { status: 1, output: /in use/ })
  t.equal((await api(url)('GET', '/health/ready')).status, 200)
})
