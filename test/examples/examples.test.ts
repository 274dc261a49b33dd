import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { ChatList, ChatWithMessages } from '../../schemas/chats.js'
import { api, register, startApp, testPassword } from '../services/app.js'
import { eventually } from '../services/eventually.js'
import { freePort } from '../services/free-port.js'
import { startServer } from '../services/server-process.js'

const root = join(import.meta.dirname, '../../..')
const pythonPath = process.env.TEST_PYTHONPATH

interface Teardown {
  teardown(end: () => unknown): unknown
}

const programs = [
  { name: 'node/talk.js', command: [process.execPath, 'examples/node/talk.js'], skip: false },
  {
    name: 'python/talk.py',
    command: ['python3', '-B', 'examples/python/talk.py'],
    skip: pythonPath ? false : 'TEST_PYTHONPATH is not set',
  },
  { name: 'curl/talk.sh', command: ['examples/curl/talk.sh'], skip: false },
]

/** Runs an example with settings, which are all the environment that it has. */
function run(t: Teardown, command: readonly string[], settings: Record<string, string>) {
  const [program = '', ...args] = command
  const child = spawn(program, [...args, 'My computer never listens to me.'], {
    cwd: root,
    env: {
      PATH: process.env.PATH,
      ...(pythonPath && { PYTHONPATH: pythonPath }),
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const output = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.out += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.err += text
  })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { child, output, ended }
}

/** The last reply of a user, as it is stored. */
async function storedReply(url: string, token: string) {
  const call = api(url, token)
  const { body } = await call<ChatList>('GET', '/api/ai/chats?limit=1')
  const chat = await call<ChatWithMessages>('GET', `/api/ai/chats/${body.chats[0]?.id}`)
  return chat.body.messages[1]
}

for (const { name, command, skip } of programs) {
  t.test(name, { skip }, async (t) => {
    t.test('shows the whole reply though the server is killed in the middle', async (t) => {
      const dataDir = await mkdtemp(join(tmpdir(), 'chat-example-'))
      t.teardown(() => rm(dataDir, { recursive: true, force: true }))
      const settings = {
        DATA_DIR: dataDir,
        PORT: `${await freePort()}`,
        ELIZA_PACE_MS: '100',
        LEASE_MS: '1000',
        // curl's script says that it has one token.
        ...(!name.startsWith('curl') && { JWT_EXPIRES_IN: '3s' }),
        RATE_LIMIT_CREDENTIALS_PER_MINUTE: '1000',
      }
      let server = await startServer(settings)
      t.teardown(() => server.end('SIGKILL'))
      const { url } = server
      const { user } = await register(url)
      const account = { CHAT_USER: user.username, CHAT_PASSWORD: testPassword }
      const { output, ended } = run(t, command, { CHAT_URL: url, ...account })
      await eventually('text came', () => output.out.length > 20)
      await server.end('SIGKILL')
      server = await startServer(settings)
      t.equal(await ended, 0, output.err)
      const again = await api(url)<{ token: string }>('POST', '/api/auth/login', {
        username: user.username,
        password: testPassword,
      })
      const stored = await storedReply(url, again.body.token)
      t.match(stored, { status: 'complete' })
      const lines = output.out.trimEnd().split('\n')
      t.ok(lines.includes(stored?.content ?? '?'), output.out)
      t.ok(lines.includes('(complete)'), output.out)
    })

    t.test('stops the reply when it is interrupted', async (t) => {
      const { url } = await startApp(t, { ELIZA_PACE_MS: '1000' })
      const { user, token } = await register(url)
      const account = { CHAT_USER: user.username, CHAT_PASSWORD: testPassword }
      const { child, output, ended } = run(t, command, { CHAT_URL: url, ...account })
      await eventually('text came', () => output.out.length > 5)
      child.kill('SIGINT')
      t.equal(await ended, 0, output.err)
      t.match(output.out, /^\(stopped\)$/m)
      t.match(await storedReply(url, token), { status: 'stopped' })
    })

    t.test('ends with the server’s own words when a setting is wrong', async (t) => {
      const { url } = await startApp(t)
      const { user } = await register(url)
      const other = createServer((_request, response) => response.writeHead(404).end('<html>'))
      t.teardown(() => other.close())
      await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
      const otherUrl = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
      const faults: [settings: Record<string, string>, words: RegExp][] = [
        [
          { CHAT_URL: url, CHAT_MODEL: 'nope' },
          /^MODEL_NOT_FOUND: Ollama does not list that model/,
        ],
        [
          { CHAT_URL: url, CHAT_USER: user.username, CHAT_PASSWORD: 'wrong' },
          /^BAD_CREDENTIALS: No account has these credentials/,
        ],
        [{ CHAT_URL: otherUrl }, /^NOT_THE_API: CHAT_URL, http.*, is another server's\.$/],
        [
          { CHAT_URL: `http://127.0.0.1:${await freePort()}` },
          /^NETWORK: No server answers at CHAT_URL/,
        ],
        [
          { CHAT_URL: 'chat.example' },
          /^BAD_SETTING: CHAT_URL must be like http:.* not chat\.example\.$/,
        ],
      ]
      for (const [settings, words] of faults) {
        const { output, ended } = run(t, command, settings)
        t.equal(await ended, 1, output.out)
        t.match(output.err.trim(), words)
      }
    })
  })
}
