import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import express, { type Request, type Response } from 'express'
import jwt, { type JwtPayload } from 'jsonwebtoken'
import { Server } from 'socket.io'
import { openQueries } from './queries.js'
import { rules, settings } from './settings.js'

/** What a reply is made of, and where it goes. */
interface Turn {
  io: Server
  chatId: string
  messageId: string
  /** The body for Ollama's /api/chat. */
  body: string
}

/**
 * A chat server of Express 5, jsonwebtoken and socket.io, each as its own documentation shows it,
 * tuned where it says so (production, a KeyObject, no ETag, prepared statements, WAL). A reply is
 * stored when it is done.
 * @param relay streams a reply from Ollama to the room of its chat, and returns its text.
 */
export function serveChats(relay: (turn: Turn) => Promise<string>): void {
  const queries = openQueries(settings.dataDir)
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')

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
      const messages = queries.history(chatId)
      const body = JSON.stringify({ model: 'bench', messages, stream: true })
      try {
        const text = await relay({ io, chatId, messageId: id, body })
        queries.addMessage(id, chatId, userId, 'assistant', text)
        io.to(chatId).emit('message', { id, chatId, role: 'assistant', content: text })
      } catch (error) {
        io.to(chatId).emit('error-message', { id, chatId, error: String(error) })
      }
    })
  })

  http.listen(settings.port, settings.host)
}

function verify(token: string): string {
  const { sub } = jwt.verify(token, settings.key, rules) as JwtPayload
  if (sub === undefined) throw new Error('a token without a subject')
  return sub
}

const newId = () => randomBytes(12).toString('hex')
