import { join } from 'node:path'
import Libsql from 'libsql'
import t from 'tap'
import { api, embedded, register, startApp } from './services/app.js'

t.test(
  'while another process locks the database, all who would write are told so together',
  async (t) => {
    const { url, dataDir } = await startApp(t, embedded)
    const { token } = await register(url)
    const call = api(url, token)
    const other = new Libsql(join(dataDir, 'chat.db'))
    t.teardown(() => other.close())
    other.exec('BEGIN IMMEDIATE')
    let refused = 0
    const writes = Array.from({ length: 6 }, async () => {
      const answer = await call('POST', '/api/ai/chats', {})
      refused += 1
      return answer
    })
    t.match(await call('GET', '/api/ai/chats'), { status: 200, body: { chats: [] } })
    t.equal(refused, 0, 'the server answers meanwhile')
    for (const answer of await Promise.all(writes)) {
      const body = { code: 'STORE_UNAVAILABLE', message: /Another process has locked/ }
      t.match(answer, { status: 503, body })
    }
    other.exec('ROLLBACK')
    t.match(await call('POST', '/api/ai/chats', {}), { status: 201 })
  },
)
