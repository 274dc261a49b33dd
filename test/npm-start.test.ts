import { join } from 'node:path'
import t from 'tap'
import { checkout, listeningAt, runScript } from './services/npm-script.js'
import { startServer } from './services/server-process.js'

t.test('SIGTERM to npm start ends the server, which frees its port and its data', async (t) => {
  const copy = await checkout(t)
  const { printed, end, hasEnded, heard } = runScript(t, copy, 'start')
  const url = listeningAt(await printed('Server listening'))
  t.equal(await end('SIGTERM'), 0)
  t.ok(hasEnded(), 'npm waited for it')
  t.match(heard.join('\n'), '"signal":"SIGTERM","msg":"going down"')
  await t.rejects(fetch(`${url}/health/live`), 'nobody has the port')
  const next = await startServer({ DATA_DIR: join(copy, 'data') })
  t.equal(await next.end('SIGTERM'), 0, 'the next has the data')
})
