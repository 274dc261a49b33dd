import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseEnvFile } from '../src/config.js'
import { startRefused, startServer } from './services/server-process.js'

const text = '# öne\nPORT=0\r\nDATA_DIR="./d ä"\nNODE_ENV=production\n'
const variables = { PORT: '0', DATA_DIR: './d ä', NODE_ENV: 'production' }

t.test('a .env file is read with a byte order mark and without', async (t) => {
  t.same(parseEnvFile(Buffer.from(text)), variables)
  t.same(parseEnvFile(Buffer.from(`\ufeff${text}`)), variables)
  t.same(parseEnvFile(Buffer.from(`\ufeff${text.replace(/.*\n/, '')}`)), variables, 'at a name')
  t.same(parseEnvFile(Buffer.from('')), {})
})

t.test('a .env file in another encoding is refused', async (t) => {
  const utf16 = Buffer.from(text, 'utf16le')
  const rows: Record<string, Buffer> = {
    'UTF-16 with a byte order mark': Buffer.from(`\ufeff${text}`, 'utf16le'),
    'UTF-16 without one': Buffer.from('PORT=0\n', 'utf16le'),
    'big-endian UTF-16': Buffer.from(utf16).swap16(),
    'Latin-1': Buffer.from(text, 'latin1'),
  }
  for (const [name, bytes] of Object.entries(rows)) {
    t.throws(() => parseEnvFile(bytes), /\.env is not UTF-8: save it in that encoding/, name)
  }
})

t.test('the server and its .env file', async (t) => {
  const cwd = await mkdtemp(join(tmpdir(), 'chat-env-'))
  t.teardown(() => rm(cwd, { recursive: true, force: true }))

  t.test('what a file in UTF-16 says is not passed over', async (t) => {
    await writeFile(join(cwd, '.env'), '\ufeffNODE_ENV=production\n', 'utf16le')
    const { status, output } = await startRefused({}, cwd)
    t.equal(status, 1)
    t.match(output, /^\.env is not UTF-8/)
  })

  t.test('a name that resembles a setting is warned of, with the right one', async (t) => {
    await writeFile(join(cwd, '.env'), '\ufeffOLLAMA_URL=http://x\n')
    const server = await startServer({ MONGO_URL: 'mongodb://x' }, () => {}, cwd)
    t.teardown(() => server.end('SIGKILL'))
    const warned = server.lines.filter((line) => line.includes('is not read'))
    t.equal(warned.length, 2, warned.join())
    t.ok(
      warned.some((line) => line.includes('OLLAMA_URL') && line.includes('OLLAMA_API_URL')),
      'of the file',
    )
    t.ok(
      warned.some((line) => line.includes('MONGO_URL') && line.includes('MONGODB_URI')),
      'of the environment',
    )
  })
})
