import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import express, { type Request, type Response } from 'express'
import jwt, { type JwtPayload } from 'jsonwebtoken'
import { Server } from 'socket.io'
import { openQueries } from './queries.js'
import { rules, settings } from './settings.js'

/*
 * The usual way: Express 5, jsonwebtoken, socket.io and fetch with TextDecoder, each as its own
 * documentation shows it, tuned where it says so (production, a KeyObject, no ETag, prepared
 * statements, WAL): `io.to(room).emit` for every token, the reply stored when it is done.
 */
const queries = openQueries(settings.dataDir)
const app = express()
app.disable('x-powered-by')
app.disable('etag')

const verify = (token: string) => {
  const { sub } = jwt.verify(token, settings.key, rules) as JwtPayload
  if (sub === undefined) throw new Error('a token without a subject')
  return sub
}

app.use('/api', (request: Request, response: Response, next) => {
  try {
    response.locals.userId = verify(request.headers.authorization?.split(' ')[1] ?? '')
    next()
  } catch {
    response.status(401).json({ error: 'Unauthorized' })
  }
})
app.get('/api/auth/profile', (_request, response) => {
  response.json(queries.profile(response.locals.userId))
})
app.get('/api/ai/chats', (request, response) => {
  const limit = Math.min(Number(request.query.limit ?? 20), 100)
  response.json({ chats: queries.listChats(response.locals.userId, limit) })
})

const http = createServer(app)
http.keepAliveTimeout = 72_000
const io = new Server(http, { serveClient: false })

io.use((socket, next) => {
  try {
    socket.data.userId = verify(String(socket.handshake.auth.token))
    next()
  } catch {
    next(new Error('Unauthorized'))
  }
})

io.on('connection', (socket) => {
  const { userId } = socket.data
  socket.on('join-chat', ({ chatId }, acknowledge) => {
    const ok = queries.owns(userId, chatId)
    if (ok) socket.join(chatId)
    acknowledge({ ok })
  })
  socket.on('chat-message', async ({ chatId, content }, acknowledge) => {
    if (!queries.owns(userId, chatId)) return acknowledge({ ok: false })
    socket.join(chatId)
    queries.addMessage(newId(), chatId, userId, 'user', content)
    acknowledge({ ok: true })
    const id = newId()
    try {
      const text = await generate(chatId, id)
      queries.addMessage(id, chatId, userId, 'assistant', text)
      io.to(chatId).emit('message', { id, chatId, role: 'assistant', content: text })
    } catch (error) {
      io.to(chatId).emit('error-message', { id, chatId, error: String(error) })
    }
  })
})

async function generate(chatId: string, messageId: string): Promise<string> {
  const answer = await fetch(`${settings.ollama}/api/chat`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ model: 'bench', messages: queries.history(chatId), stream: true }),
  })
  if (!answer.ok || !answer.body) throw new Error(`Ollama answered ${answer.status}`)
  const decoder = new TextDecoder()
  let buffered = ''
  let text = ''
  for await (const chunk of answer.body) {
    buffered += decoder.decode(chunk, { stream: true })
    const lines = buffered.split('\n')
    buffered = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') continue
      const { message } = JSON.parse(line)
      if (!message?.content) continue
      text += message.content
      io.to(chatId).emit('message-chunk', { chatId, messageId, delta: message.content })
    }
  }
  return text
}

const newId = () => randomBytes(12).toString('hex')

http.listen(settings.port, settings.host)
