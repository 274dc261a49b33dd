import { join } from 'node:path'
import Libsql from 'libsql'
import t from 'tap'
import { api, embedded, register, startApp } from '../services/app.js'

t.test(
  'while another process locks the database, every write is refused and reads go on',
  async (t) => {
    const { url, dataDir } = await startApp(t, embedded)
    const { token } = await register(url)
    const call = api(url, token)
    const other = new Libsql(join(dataDir, 'chat.db'))
    t.teardown(() => other.close())
    other.exec('BEGIN IMMEDIATE')
    const writes = Array.from({ length: 6 }, () => call('POST', '/api/ai/chats', {}))
    t.match(await call('GET', '/api/ai/chats'), { status: 200, body: { chats: [] } })
    for (const answer of await Promise.all(writes)) {
      const body = { code: 'STORE_UNAVAILABLE', message: /Another process has locked/ }
      t.match(answer, { status: 503, body })
    }
    other.exec('ROLLBACK')
    t.match(await call('POST', '/api/ai/chats', {}), { status: 201 })
  },
)
