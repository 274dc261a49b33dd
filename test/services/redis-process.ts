import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { Redis } from 'ioredis'
import { freePort } from './free-port.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

/** A Redis of the test's own, without persistence, to be misconfigured and killed. */
export async function startRedis(t: Teardown) {
  const port = await freePort()
  const options = ['--bind', '127.0.0.1', '--port', `${port}`, '--save', '', '--appendonly', 'no']
  const child = spawn('redis-server', options, { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  await once(child, 'spawn')
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.includes('Ready to accept connections')) break
  }
  child.stdout.resume()
  const url = `redis://127.0.0.1:${port}`
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  return { url, client }
}
