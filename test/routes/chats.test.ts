import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { Chat, ChatList, ChatWithMessages } from '../../schemas/chats.js'
import type { ApiError } from '../../schemas/common.js'
import type { Turn } from '../../schemas/messages.js'
import type { LanguageModel } from '../../schemas/models.js'
import { AppError } from '../../src/errors.js'
import { api, register, startApp } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { eventually } from '../services/eventually.js'
import { startStandIn } from '../services/ollama-stand-in.js'

t.test('chats', async (t) => {
  const standIn = await startStandIn()
  t.teardown(() => standIn.close())
  const { url } = await startApp(t, { OLLAMA_API_URL: standIn.url })
  const user = await register(url)
  const call = api(url, user.token)

  t.test('a chat is created, read, changed and deleted', async (t) => {
    const input = {
      title: 'Plans',
      model: 'stand-in',
      system: 'Be brief.',
      options: { temperature: 0 },
    }
    const created = await call<Chat>('POST', '/api/ai/chats', input)
    t.equal(created.status, 201)
    t.match(created.body, { ...input, user: user.user.id, messageCount: 0 })
    const path = `/api/ai/chats/${created.body.id}`
    t.match((await call('GET', path)).body, { ...input, messages: [], nextCursor: null })
    const changed = await call<Chat>('PATCH', path, { title: 'Other', system: '' })
    t.match(changed, { status: 200, body: { title: 'Other', system: '', model: 'stand-in' } })
    const deleted = await call('DELETE', path)
    t.match(deleted, { status: 204, body: undefined })
    t.match(await call('GET', path), { status: 404, body: { code: 'CHAT_NOT_FOUND' } })
    t.match(await call('DELETE', path), { status: 404 })
  })

  t.test('an unknown model is refused before anything is stored', async (t) => {
    const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
    const path = `/api/ai/chats/${chat.id}`
    const answer = await call('POST', `${path}/messages`, { content: 'x', model: 'no-such' })
    t.match(answer, { status: 404, body: { code: 'MODEL_NOT_FOUND' } })
    t.match((await call('GET', path)).body, { messages: [], messageCount: 0, title: null })
  })

  t.test('the list is paged, newest activity first, and moves with messages', async (t) => {
    const lister = await register(url)
    const list = api(url, lister.token)
    const ids: string[] = []
    for (let n = 0; n < 25; n++) {
      ids.unshift((await list<Chat>('POST', '/api/ai/chats', { title: `chat ${n}` })).body.id)
    }
    const first = await list<ChatList>('GET', '/api/ai/chats')
    t.same(
      first.body.chats.map((chat) => chat.id),
      ids.slice(0, 20),
    )
    const seen: string[] = []
    for (let cursor: string | null = ''; cursor !== null; ) {
      const query: string = cursor && `&cursor=${cursor}`
      const page = await list<ChatList>('GET', `/api/ai/chats?limit=7${query}`)
      t.equal(page.status, 200)
      seen.push(...page.body.chats.map((chat) => chat.id))
      cursor = page.body.nextCursor
    }
    t.same(seen, ids)
    const oldest = ids.at(-1)
    await list('POST', `/api/ai/chats/${oldest}/messages`, { content: 'len=5' })
    const moved = await list<ChatList>('GET', '/api/ai/chats')
    t.match(moved.body.chats[0], { id: oldest, messageCount: 2 }, 'the cached page was forgotten')
    const foreign = await call('GET', `/api/ai/chats?cursor=${first.body.nextCursor}`)
    t.match(foreign, { status: 400, body: { code: 'BAD_CURSOR' } }, 'a cursor is its owner’s')
  })

  t.test('messages are paged towards older ones, each page in order', async (t) => {
    const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
    for (let n = 0; n < 6; n++) {
      await call<Turn>('POST', `/api/ai/chats/${chat.id}/messages`, { content: `len=5 ${n}` })
    }
    const pages: number[][] = []
    for (let before: string | null = ''; before !== null; ) {
      const query: string = before && `&before=${before}`
      const page = await call<ChatWithMessages>('GET', `/api/ai/chats/${chat.id}?limit=5${query}`)
      pages.push(page.body.messages.map((message) => message.seq))
      before = page.body.nextCursor
    }
    t.same(pages, [
      [8, 9, 10, 11, 12],
      [3, 4, 5, 6, 7],
      [1, 2],
    ])
  })

  t.test('a title is a first message’s first words', async (t) => {
    const titled = async (content: string) => {
      const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
      await call('POST', `/api/ai/chats/${chat.id}/messages`, { content })
      return (await call<Chat>('GET', `/api/ai/chats/${chat.id}`)).body.title ?? ''
    }
    t.equal(await titled('  Hello\n there  '), 'Hello there')
    const long = await titled(`${'👩‍👩‍👧‍👦word '.repeat(40)}`)
    t.ok(long.isWellFormed() && long.length < 150 && long.endsWith('…'), long)
    t.ok((await titled(' \n ')).length > 0)
  })

  t.test('what is out of range, unknown or not a cursor is 400', async (t) => {
    const { body: chat } = await call<Chat>('POST', '/api/ai/chats', {})
    const bad: [string, string, unknown?][] = [
      ['GET', '/api/ai/chats?limit=0'],
      ['GET', '/api/ai/chats?limit=101'],
      ['GET', '/api/ai/chats?limit=1e1'],
      ['GET', '/api/ai/chats?limit=0x10'],
      ['GET', '/api/ai/chats?limit=1&limit=2'],
      ['GET', '/api/ai/chats?cursor=AAAA'],
      ['GET', '/api/ai/chats?unknown=1'],
      ['GET', '/api/ai/models?unknown=1'],
      ['GET', '/api/ai/chats/not-an-id'],
      ['GET', `/api/ai/chats/${chat.id}?before=x`],
      ['DELETE', `/api/ai/chats/${chat.id}?force=true`],
      ['PATCH', `/api/ai/chats/${chat.id}`, {}],
      ['PATCH', `/api/ai/chats/${chat.id}`, { user: chat.id }],
      ['POST', '/api/ai/chats', { title: 1 }],
      ['POST', '/api/ai/chats', { title: { $ne: null } }],
      ['POST', '/api/ai/chats', { options: { num_ctx: 1 } }],
      ['POST', '/api/ai/chats', { options: { invented: 1 } }],
      ['POST', `/api/ai/chats/${chat.id}/messages`, { content: '' }],
      ['POST', `/api/ai/chats/${chat.id}/messages`, { content: 'x'.repeat(100_001) }],
      ['POST', `/api/ai/chats/${chat.id}/messages`, { content: '😀'.repeat(50_001) }],
      ['POST', `/api/ai/chats/${chat.id}/messages`, { content: 'x', role: 'system' }],
    ]
    for (const [method, path, body] of bad) {
      const answer = await call<ApiError>(method, path, body)
      t.equal(answer.status, 400, `${method} ${path} ${JSON.stringify(body)?.slice(0, 40) ?? ''}`)
      t.match(answer.body, {
        statusCode: 400,
        code: /^[A-Z_]+$/,
        error: 'Bad Request',
        requestId: String,
      })
    }
    t.match((await call('GET', `/api/ai/chats/${chat.id}`)).body, { messageCount: 0 })
  })

  t.test('models are as Ollama lists them', async (t) => {
    const { body } = await call<{ models: LanguageModel[] }>('GET', '/api/ai/models')
    t.match(body.models, [
      {
        name: 'stand-in:latest',
        size: 135_000_000,
        details: { family: 'standin' },
        capabilities: ['completion', 'thinking'],
      },
    ])
    t.match(body.models[0]?.modifiedAt, /^\d{4}-\d\d-\d\dT/)
  })
})

t.test(
  'of deletions at once one is told of its success, whatever becomes of the others',
  async (t) => {
    const { app, url } = await startApp(t)
    const { token } = await register(url)
    const call = api(url, token)
    const { body } = await call<Chat>('POST', '/api/ai/chats', {})
    const { deleteChat, findChat } = app.store
    let found = 0
    let goOn = () => {}
    const bothFound = new Promise<void>((resolve) => (goOn = resolve))
    app.store.findChat = async (...asked) => {
      const chat = await findChat(...asked)
      if (++found === 2) goOn()
      return chat
    }
    let deleted: Promise<boolean> | undefined
    app.store.deleteChat = async (...asked) => {
      const isFirst = deleted === undefined
      // Others have the time to come between.
      deleted ??= Promise.race([bothFound, delay(200)]).then(() => deleteChat(...asked))
      const answer = await deleted
      if (isFirst) return answer
      throw new AppError('STORE_UNAVAILABLE')
    }
    const remove = () => call('DELETE', `/api/ai/chats/${body.id}`)
    const [first, second] = await Promise.all([remove(), remove()])
    t.same([first.status, second.status].sort(), [204, 503])
    app.store.deleteChat = deleteChat
    t.match(await remove(), { status: 404, body: { code: 'CHAT_NOT_FOUND' } })
  },
)

t.test('a deletion whose answer is lost is told to the user’s devices all the same', async (t) => {
  const { app, url } = await startApp(t)
  const { token } = await register(url)
  const call = api(url, token)
  const { body } = await call<Chat>('POST', '/api/ai/chats', {})
  const path = `/api/ai/chats/${body.id}`
  const socket = await connect(t, url, token)
  const told: unknown[] = []
  socket.on('chat-deleted', (event) => told.push(event))
  const { deleteChat } = app.store
  app.store.deleteChat = async (...asked) => {
    app.store.deleteChat = deleteChat
    await deleteChat(...asked)
    throw new AppError('STORE_UNAVAILABLE')
  }
  t.equal((await call('DELETE', path)).status, 503)
  await eventually('they are told', () => told.length > 0)
  t.equal((await call('DELETE', path)).status, 204, 'who asks again is told of its success')
  await ask(socket, 'leave-chat', { chatId: body.id })
  t.same(told, [{ chatId: body.id }], 'once')
})
