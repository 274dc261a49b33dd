import fp from 'fastify-plugin'
import { Counter, Gauge, Histogram } from 'prom-client'
import type { Message, MessageChunk, MessageStart } from '../schemas/messages.js'
import type { ChatEventsListener } from '../src/reply/chat-events.js'

/** From milliseconds to minutes, in seconds. */
const buckets = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300]
/** Of token gaps: a model says 5 to 200 tokens a second, and stalls for seconds. */
const gapBuckets = [0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 3, 10, 30]
const endStatuses = ['complete', 'stopped', 'interrupted', 'error']
/** Replies whose last text is remembered; more do not run on one server. */
const maxTimed = 20_000
/** Token gaps that wait to be counted. */
const maxGaps = 1000

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
    // From the start, so that the first one is an increase.
    for (const status of endStatuses) ended.inc({ status }, 0)
    const takeovers = new Counter({
      name: 'chat_replies_taken_over_total',
      help: 'Replies taken over from another process.',
      registers,
    })
    const tokens = new Counter({
      name: 'chat_tokens_total',
      help: 'Tokens as Ollama counts them, of prompts and of replies.',
      labelNames: ['kind'] as const,
      registers,
    })
    const queueWait = new Histogram({
      name: 'chat_queue_wait_seconds',
      help: 'From a message to its reply’s turn.',
      buckets,
      registers,
    })
    const firstToken = new Histogram({
      name: 'chat_time_to_first_token_seconds',
      help: 'From a reply’s turn to its first text or thinking.',
      buckets,
      registers,
    })
    const tokenGap = new Histogram({
      name: 'chat_token_gap_seconds',
      help: 'From one frame of a reply’s text or thinking to the next.',
      buckets: gapBuckets,
      registers,
      collect: observeGaps,
    })
    /** Gaps that are not in the histogram yet, in seconds: many at once cost a fraction of one by one. */
    const gaps: number[] = []
    function observeGaps(): void {
      for (const gap of gaps.splice(0)) tokenGap.observe(gap)
    }

    /** Of each running reply, in milliseconds: when it began, while it has no text, and its last text. */
    const times = new Map<string, { began: number | undefined; last: number }>()

    function onStart({ id, epoch, position, createdAt }: MessageStart): void {
      if (position !== undefined) return
      if (epoch > 1) takeovers.inc()
      else queueWait.observe((Date.now() - Date.parse(createdAt)) / 1000)
      const now = performance.now()
      times.delete(id)
      times.set(id, { began: now, last: now })
      // One that another server took over may not be heard of again.
      if (times.size > maxTimed) for (const [oldest] of times) return void times.delete(oldest)
    }

    function onChunk({ messageId }: MessageChunk): void {
      const time = times.get(messageId)
      if (!time) return
      const now = performance.now()
      if (time.began === undefined) gaps.push((now - time.last) / 1000)
      else firstToken.observe((now - time.began) / 1000)
      if (gaps.length === maxGaps) observeGaps()
      time.began = undefined
      time.last = now
    }

    function onMessage({ id, role, status, usage }: Message): void {
      if (role !== 'assistant') return
      times.delete(id)
      ended.inc({ status })
      tokens.inc({ kind: 'prompt' }, usage?.promptTokens ?? 0)
      tokens.inc({ kind: 'reply' }, usage?.replyTokens ?? 0)
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
