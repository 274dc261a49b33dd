import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { embedded, startApp } from './services/app.js'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const readme = readFileSync(join(root, 'README.md'), 'utf8')

function block(language: string): string {
  const found = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'ms').exec(readme)?.[1]
  if (!found) throw new Error(`the README has no block of ${language}`)
  return found
}

/** Whether a line was printed as the README has it; a line that ends in … is cut there. */
const isAsWritten = (written: string, line = '') =>
  written.endsWith('…') ? line.startsWith(written.slice(0, -1)) : line === written

t.test('the README’s first conversation is true, also pasted again', async (t) => {
  const { url } = await startApp(t, embedded)
  const script = block('bash').replaceAll('http://localhost:3000', url)
  await run('bash', ['-euo', 'pipefail', '-c', script], { timeout: 30_000 })
  const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', script], { timeout: 30_000 })
  const expected = block('text').trimEnd().split('\n')
  // What is between is the stream, whose frames and ids differ from run to run.
  const lines = stdout.trimEnd().split('\n')
  t.ok(isAsWritten(expected[0] ?? '', lines[0]), 'the first answer')
  t.match(stdout, /^event: message-chunk$/m)
  for (const [index, written] of expected.slice(-5).entries()) {
    const line = lines.slice(-5)[index]
    t.ok(isAsWritten(written, line), `the same reply, and all of it kept: ${line}`)
  }
})

t.test('the README’s conversation over a socket is true', async (t) => {
  const { url } = await startApp(t, embedded)
  const code = block('js')
  t.ok(code.trim().split('\n').length <= 15, 'it is short')
  // Inside the checkout, so that it finds socket.io-client.
  const file = join(root, 'dist', `readme-${process.pid}.mjs`)
  await writeFile(file, code)
  t.teardown(() => rm(file))
  const { stdout } = await run(process.execPath, [file], {
    env: { PATH: process.env.PATH, URL: url },
    timeout: 30_000,
  })
  t.match(stdout, /^In what way \? .*\.$/)
})
