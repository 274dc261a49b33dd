import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { eventually } from './eventually.js'
import { freePort } from './free-port.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

/**
 * A real Ollama of its own that can be killed, over the models that services.sh made; ended with
 * the test, or when the test's process dies.
 */
export async function startOllama(t: Teardown, binary: string, models: string) {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`

  async function start() {
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', binary, 'serve'], {
      env: { PATH: process.env.PATH, HOME: models, OLLAMA_HOST: url, OLLAMA_MODELS: models },
      // A group of its own, with the runners that it starts.
      detached: true,
      stdio: 'ignore',
    })
    await once(child, 'spawn')
    const answers = () =>
      fetch(`${url}/api/version`).then(
        ({ ok }) => ok,
        () => false,
      )
    await eventually('Ollama answers', answers)
    return child
  }

  let child = await start()

  async function kill() {
    if (child.signalCode !== null || child.exitCode !== null) return
    const gone = once(child, 'exit')
    process.kill(-Number(child.pid), 'SIGKILL')
    await gone
  }

  t.teardown(kill)
  return {
    url,
    kill,
    /** Listens again where it did, after `kill`. */
    async restart() {
      child = await start()
    },
  }
}
