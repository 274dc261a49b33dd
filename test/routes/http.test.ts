import t from 'tap'
import type { Chat } from '../../schemas/chats.js'
import type { Turn } from '../../schemas/messages.js'
import { register } from '../services/app.js'
import { startConversation } from '../services/conversation.js'
import { send } from '../services/raw.js'

t.test('what HTTP leaves to a client', async (t) => {
  const paths = new Set<string>()
  const {
    url,
    user,
    newChat,
    send: say,
    messagesOf,
    post,
    read,
  } = await startConversation(t, {}, {}, (app) => {
    app.addHook('onRoute', (route) => {
      if (route.method === 'GET' && !route.url.includes('*')) paths.add(route.url)
    })
  })
  const chatId = await newChat({ title: 'Plans' })
  const { reply } = (await say(chatId, { content: 'len=20' })).body
  const at = (path: string) => path.replace(':chatId', chatId).replace(':messageId', reply.id)

  t.test('HEAD answers as GET does, without the body', async (t) => {
    t.ok(paths.size > 8, `${paths.size} paths`)
    for (const path of paths) {
      // A stream has an end here: its reply's.
      const got = await send(url, 'GET', at(path), user.headers)
      const head = await send(url, 'HEAD', at(path), user.headers)
      t.ok(got.status < 400, path)
      t.equal(head.status, got.status, path)
      t.equal(head.text, '', path)
      t.equal(head.headers['content-type'], got.headers['content-type'], path)
    }
  })

  t.test('HEAD of a list tells the length that GET would have', async (t) => {
    const got = await send(url, 'GET', '/api/ai/chats', user.headers)
    const head = await send(url, 'HEAD', '/api/ai/chats', user.headers)
    t.equal(head.headers['content-length'], String(Buffer.byteLength(got.text)))
  })

  t.test('HEAD is refused as GET is', async (t) => {
    t.equal((await send(url, 'HEAD', '/api/ai/chats')).status, 401)
    const other = await register(url)
    const path = `${messagesOf(chatId)}/${reply.id}/stream`
    t.equal((await send(url, 'HEAD', path, other.headers)).status, 404)
  })

  t.test('HEAD of a running reply’s stream answers at once, and starts no stream', async (t) => {
    const busy = await newChat()
    const { body } = await post(busy, { content: 'len=100000 rate=50' })
    const path = `${messagesOf(busy)}/${body.reply.id}/stream`
    const head = await send(url, 'HEAD', path, user.headers)
    t.match(head, { status: 200, text: '' })
    t.match(head.headers['content-type'], /^text\/event-stream/)
    t.match((await read(busy)).messages.at(-1)?.status, /^(?:queued|streaming)$/)
    await send(url, 'DELETE', `/api/ai/chats/${busy}`, user.headers)
  })

  t.test('a path with a slash at its end is the same route', async (t) => {
    for (const path of ['/health/live', '/api/auth/profile', '/api/ai/chats', '/openapi.json']) {
      const plain = await send(url, 'GET', path, user.headers)
      const slashed = await send(url, 'GET', `${path}/`, user.headers)
      t.match(slashed, { status: 200, text: plain.text }, path)
    }
    const queried = await send(url, 'GET', '/api/ai/chats/?limit=1', user.headers)
    t.equal(queried.status, 200)
    const wrong = await send(url, 'PUT', '/api/ai/chats/', user.headers)
    t.match(wrong, { status: 405, headers: { allow: 'GET, HEAD, POST' } })
  })

  t.test('a chat is created without a body', async (t) => {
    const ways: Record<string, Record<string, string>> = {
      'no type and no length': {},
      'a length of 0': { 'content-length': '0' },
      'the type of JSON and nothing in it': { 'content-type': 'application/json' },
      'the type of a form and nothing in it': {
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': '0',
      },
    }
    for (const [name, headers] of Object.entries(ways)) {
      const { status, text } = await send(url, 'POST', '/api/ai/chats', {
        ...user.headers,
        ...headers,
      })
      t.equal(status, 201, name)
      const chat: Chat = JSON.parse(text)
      t.match(chat, { title: null, model: null, messageCount: 0 }, name)
    }
  })

  t.test('JSON wins wherever the client names it, else events do', async (t) => {
    const answers = async (accept: string) => {
      const headers = { ...user.headers, accept, 'content-type': 'application/json' }
      const body = JSON.stringify({ content: 'len=5' })
      const {
        status,
        headers: told,
        text,
      } = await send(url, 'POST', messagesOf(chatId), headers, body)
      if (status === 201) t.match(JSON.parse(text) as Turn, { reply: { status: 'complete' } })
      return { status, type: String(told['content-type']).split(';')[0] }
    }
    const json = { status: 201, type: 'application/json' }
    for (const accept of [
      'application/json, text/event-stream',
      'text/event-stream, application/json',
      'text/event-stream, Application/JSON',
      'text/event-stream;q=1, application/json;q=0.1',
      'text/event-stream, */*;q=0.5, application/json;q=0.2',
      'application/json',
      '*/*',
      'text/html',
    ]) {
      t.strictSame(await answers(accept), json, accept)
    }
    const events = { status: 200, type: 'text/event-stream' }
    for (const accept of [
      'text/event-stream',
      'Text/Event-Stream;q=0.5',
      'text/event-stream, */*',
      'text/event-stream, application/json;q=0',
    ]) {
      t.strictSame(await answers(accept), events, accept)
    }
  })
})
