import { Writable } from 'node:stream'
import { pino } from 'pino'
import t from 'tap'
import { loggerOptions } from '../src/logging.js'

/** A logger as the server's, and the lines it wrote. */
function logger(level = 'info') {
  const lines: Record<string, unknown>[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)))
      done()
    },
  })
  return { log: pino(loggerOptions({ LOG_LEVEL: level }), stream), lines }
}

t.test('fields that hold secrets are redacted', async (t) => {
  const { log, lines } = logger()
  const secrets = {
    password: 'canary',
    token: 'canary',
    refreshToken: 'canary',
    authorization: 'canary',
    JWT_SECRET: 'canary',
  }
  log.info({ ...secrets, body: secrets, request: { headers: secrets } })
  t.equal(lines.length, 1)
  t.notMatch(JSON.stringify(lines), 'canary')
  t.match(lines, [{ password: '[redacted]', body: { token: '[redacted]' } }])
})

t.test('a token and a URL’s password are scrubbed wherever they stand', async (t) => {
  const { log, lines } = logger()
  const jwt = `eyJhbGciOiJIUzI1NiJ9.${Buffer.from('{"sub":"1"}').toString('base64url')}.c2lnbmF0dXJl`
  log.info({ note: `Bearer ${jwt}` }, `connecting to redis://:canary@127.0.0.1:6379/0 with ${jwt}`)
  t.match(lines, [
    {
      note: 'Bearer [redacted]',
      msg: 'connecting to redis://[redacted]@127.0.0.1:6379/0 with [redacted]',
    },
  ])
})

t.test('an error is told without what its driver hangs on it', async (t) => {
  const { log, lines } = logger()
  const cause = new Error('cannot reach mongodb://user:canary@a.example,b.example/chat')
  const error = Object.assign(new Error('no database', { cause }), {
    code: 'ECONNREFUSED',
    options: { credentials: { password: 'canary' } },
  })
  log.error({ err: error }, 'failed')
  t.notMatch(JSON.stringify(lines), 'canary')
  t.match(lines, [
    {
      err: {
        message: 'no database',
        code: 'ECONNREFUSED',
        stack: /no database/,
        cause: { message: 'cannot reach mongodb://[redacted]@a.example,b.example/chat' },
      },
    },
  ])
})

t.test('a request is told without its query string and headers', async (t) => {
  const { log, lines } = logger()
  const headers = { authorization: 'canary', cookie: 'canary' }
  const url = '/api/ai/chats?token=canary'
  log.info({ req: { id: 'r1', method: 'GET', url, ip: '127.0.0.1', headers } })
  t.match(lines, [
    { req: { id: 'r1', method: 'GET', path: '/api/ai/chats', remoteAddress: '127.0.0.1' } },
  ])
  t.notMatch(JSON.stringify(lines), 'canary')
})

t.test('the level is the one that is set', async (t) => {
  const { log, lines } = logger('warn')
  log.info('quiet')
  log.warn('loud')
  t.match(lines, [{ msg: 'loud' }])
})
