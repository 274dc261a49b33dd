import { Pool } from 'undici'
import { serveChats } from './chat-server.js'
import { settings } from './settings.js'

/*
 * The least that the product's own packages do for a token: undici's dispatch, JSON.parse, and one
 * `io.local.to(room).emit` for what a turn of the loop read. Nothing is kept, bounded or timed.
 */
const pool = new Pool(settings.ollama, { connections: 10_000, pipelining: 1 })
const headers = { 'content-type': 'application/json' }

serveChats(({ io, chatId, messageId, body }) => {
  const decoder = new TextDecoder()
  let rest = ''
  let text = ''
  let told = 0
  const tell = () => {
    const delta = text.slice(told)
    if (delta === '') return
    io.local.to(chatId).emit('message-chunk', { chatId, messageId, offset: told, delta })
    told = text.length
  }
  return new Promise((resolve, reject) => {
    pool.dispatch(
      { path: '/api/chat', method: 'POST', headers, body },
      {
        onRequestStart() {},
        onResponseStart() {},
        onResponseData(_controller, chunk) {
          const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
          rest = lines.pop() ?? ''
          for (const line of lines) text += JSON.parse(line).message?.content ?? ''
          setImmediate(tell)
        },
        onResponseEnd() {
          tell()
          resolve(text)
        },
        onResponseError: (_controller, error) => reject(error),
      },
    )
  })
})
