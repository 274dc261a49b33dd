import fp from 'fastify-plugin'
import { Counter, Gauge, Histogram } from 'prom-client'
import type { Message, MessageChunk, MessageStart } from '../schemas/messages.js'
import type { ChatEventsListener } from '../src/reply/chat-events.js'

/** From milliseconds to minutes, in seconds. */
const buckets = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]

/** Metrics of this server's sockets and of the replies that it runs, counted from the chat events. */
export default fp(
  async (fastify) => {
    const { metrics, generations, chatEvents, io } = fastify
    const registers = [metrics]
    const gauge = (name: string, help: string, read: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read())
        },
      })
    gauge('chat_sockets', 'Sockets that are connected.', () => io.sockets.sockets.size)
    gauge('chat_replies_waiting', 'Replies in the queue.', () => generations.counts.waiting)
    gauge('chat_replies_running', 'Replies at Ollama.', () => generations.counts.running)
    const ended = new Counter({
      name: 'chat_replies_ended_total',
      help: 'Replies that ended, by their status.',
      labelNames: ['status'] as const,
      registers,
    })
    const takeovers = new Counter({
      name: 'chat_replies_taken_over_total',
      help: 'Replies taken over from another process.',
      registers,
    })
    const tokens = new Counter({
      name: 'chat_tokens_total',
      help: 'Tokens as Ollama counts them, of prompts and of replies.',
      labelNames: ['of'] as const,
      registers,
    })
    const queueWait = new Histogram({
      name: 'chat_queue_wait_seconds',
      help: 'From a message to its reply’s turn.',
      buckets,
      registers,
    })
    const firstToken = new Histogram({
      name: 'chat_first_token_seconds',
      help: 'From a reply’s turn to its first text or thinking.',
      buckets,
      registers,
    })

    /** When each reply without text began, in milliseconds. */
    const begun = new Map<string, number>()

    function onStart({ id, epoch, position, createdAt }: MessageStart): void {
      if (position !== undefined) return
      if (epoch > 1) takeovers.inc()
      else queueWait.observe((Date.now() - Date.parse(createdAt)) / 1000)
      begun.set(id, performance.now())
    }

    function onChunk({ messageId }: MessageChunk): void {
      const began = begun.get(messageId)
      if (began === undefined) return
      begun.delete(messageId)
      firstToken.observe((performance.now() - began) / 1000)
    }

    function onMessage({ id, role, status, usage }: Message): void {
      if (role !== 'assistant') return
      begun.delete(id)
      ended.inc({ status })
      tokens.inc({ of: 'prompts' }, usage?.promptTokens ?? 0)
      tokens.inc({ of: 'replies' }, usage?.replyTokens ?? 0)
    }

    const listener: ChatEventsListener = {
      toChat(_chatId, event, payload, origin) {
        if (origin === 'peer') return
        if (event === 'message-chunk') onChunk(payload as MessageChunk)
        else if (event === 'message-start') onStart(payload as MessageStart)
        else onMessage(payload as Message)
      },
      toUser() {},
    }
    const stopListening = chatEvents.listen(listener)
    fastify.addHook('onClose', async () => stopListening())
  },
  { name: 'chat-metrics', dependencies: ['observability', 'chat', 'socket'] },
)
