import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from './services/eventually.js'
import { checkout, listeningAt, runScript } from './services/npm-script.js'

t.test('npm run dev serves, restarts on a change, and ends with npm', async (t) => {
  const copy = await checkout(t)
  const { printed, end, hasEnded, heard } = runScript(t, copy, 'dev')
  await printed('Server listening')
  const again = printed('Server listening')
  await appendFile(join(copy, 'src/ids.ts'), '\nexport const changed = true\n')
  const url = listeningAt(await again)
  t.equal((await fetch(`${url}/health/live`)).status, 200, 'it listens again')
  await end('SIGTERM')
  await eventually('the server has ended', hasEnded)
  t.ok(heard.filter((line) => line.includes('shutting down')).length >= 2, 'as they should')
  await t.rejects(fetch(`${url}/health/live`), 'nobody has the port')
})
