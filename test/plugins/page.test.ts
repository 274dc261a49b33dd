import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startApp } from '../services/app.js'
import { send } from '../services/raw.js'

const browser = { accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' }
const addresses = ['/', '/chat/0123456789abcdef01234567', '/chat/anything']

/** The addresses that the HTML names. */
const namedIn = (html: string) =>
  [...html.matchAll(/(?:href|src)="([^"]+)"/g)].flatMap(([, address]) => address ?? [])

t.test('browsers get the page at its addresses', async (t) => {
  const { url } = await startApp(t)
  for (const path of addresses) {
    const { status, headers, text } = await send(url, 'GET', path, browser)
    t.equal(status, 200, path)
    t.match(headers, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-cache' })
    t.match(String(headers.vary), 'Accept')
    t.match(text, /<script type="module" src="\/assets\/main-\w+\.js">/)
    const again = { ...browser, 'if-none-match': String(headers.etag) }
    t.equal((await send(url, 'GET', path, again)).status, 304, 'and it is theirs until it changes')
  }
})

t.test('the API stays where it is', async (t) => {
  const { url } = await startApp(t)
  for (const path of ['/api/nothing', '/api/ai/chats', '/nothing', '/chat', '/chat/a/b']) {
    const { status, headers } = await send(url, 'GET', path, browser)
    t.equal(status, path === '/api/ai/chats' ? 401 : 404, path)
    t.equal(headers['content-type'], 'application/json; charset=utf-8')
  }
  const { status, text } = await send(url, 'GET', '/', { accept: 'application/json' })
  t.equal(status, 404, 'who wants JSON has no page')
  t.match(JSON.parse(text), { code: 'NOT_FOUND' })
})

t.test('the page may load nothing from elsewhere, and turn no text into script', async (t) => {
  const { url } = await startApp(t)
  const { headers, text } = await send(url, 'GET', '/', browser)
  const policy = String(headers['content-security-policy'])
  t.match(policy, "default-src 'none'")
  t.match(policy, "require-trusted-types-for 'script'")
  t.notMatch(policy, /unsafe|\*|https?:|data:|blob:/)
  t.notMatch(text, /<style|style=|<script>|\son\w+=/, 'nothing is inline')
  for (const address of namedIn(text)) t.match(address, /^\/assets\//, address)
})

t.test(
  'what the page loads is named by its content, compressed ahead, and cached for good',
  async (t) => {
    const { url } = await startApp(t)
    const { text: html } = await send(url, 'GET', '/', browser)
    const named = namedIn(html)
    t.ok(named.length >= 4)
    for (const address of named) {
      t.match(address, /-\w{8}\.\w+$/, address)
      for (const [accepted, encoding] of [
        ['gzip, deflate, br', 'br'],
        ['gzip', 'gzip'],
        ['identity', undefined],
      ] as const) {
        const answer = await send(url, 'GET', address, { 'accept-encoding': accepted })
        t.equal(answer.status, 200)
        t.equal(answer.headers['content-encoding'], encoding)
        t.equal(answer.headers['cache-control'], 'public, max-age=31536000, immutable')
        t.match(String(answer.headers.vary), 'Accept-Encoding')
      }
      t.equal(
        (await send(url, 'GET', `${address}.br`)).status,
        404,
        'what is compressed has no address',
      )
    }
  },
)

t.test('the whole page has at most 120 KB', async (t) => {
  const folder = join(import.meta.dirname, '../../page')
  const files = await readdir(folder, { recursive: true })
  const compressed = files.filter((name) => name.endsWith('.br'))
  const sizes = await Promise.all(compressed.map((name) => stat(join(folder, name))))
  const bytes = sizes.reduce((sum, { size }) => sum + size, 0)
  t.ok(bytes > 0 && bytes <= 120_000, `${bytes} bytes`)
})

t.test('PAGE=false takes the page away', async (t) => {
  const { url } = await startApp(t, { PAGE: 'false' })
  for (const path of addresses) {
    const { status, headers } = await send(url, 'GET', path, browser)
    t.equal(status, 404, path)
    t.equal(headers['content-type'], 'application/json; charset=utf-8')
  }
})
