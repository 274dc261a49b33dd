import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** What one user asks. */
export interface HttpRequest {
  path: string
  token?: string
  /** The address that a proxy would name. */
  address?: string
}

export interface HttpLoad {
  url: string
  /** Asked in turn. */
  requests: HttpRequest[]
  method?: string
  body?: string
  connections: number
  ms: number
}

export interface HttpHeard {
  answers: number
  /** Answers other than 200. */
  others: number
  ms: number
  bytes: number
}

const headEnd = Buffer.from('\r\n\r\n')

/**
 * Requests as fast as they are answered, over kept connections, one at a time on each.
 * @throws Error when a connection fails or an answer has no Content-Length.
 */
export async function loadHttp(load: HttpLoad): Promise<HttpHeard> {
  const { hostname, port, host } = new URL(load.url)
  const body = load.body ?? ''
  const requests = load.requests.map(({ path, token, address }) => {
    const head = [
      `${load.method ?? 'GET'} ${path} HTTP/1.1`,
      `Host: ${host}`,
      ...(token ? [`Authorization: Bearer ${token}`] : []),
      ...(address ? [`X-Forwarded-For: ${address}`] : []),
      ...(body
        ? ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`]
        : []),
    ].join('\r\n')
    return Buffer.from(`${head}\r\n\r\n${body}`)
  })
  let asked = 0
  const heard: HttpHeard = { answers: 0, others: 0, ms: 0, bytes: 0 }
  const startedAt = performance.now()
  let over = false

  const one = () =>
    new Promise<void>((resolve, reject) => {
      const socket = connect(Number(port), hostname)
      socket.setNoDelay(true)
      let held = Buffer.alloc(0)
      let left = -1
      const next = () => {
        if (over) socket.end(resolve)
        else socket.write(requests[asked++ % requests.length] ?? '')
      }
      socket.on('connect', next)
      socket.on('error', reject)
      socket.on('close', () => {
        if (over) resolve()
        else reject(new Error(`${load.url} closed a connection`))
      })
      socket.on('data', (chunk) => {
        heard.bytes += chunk.length
        if (left === -1) {
          held = held.length > 0 ? Buffer.concat([held, chunk]) : chunk
          const end = held.indexOf(headEnd)
          if (end === -1) return
          const head = held.toString('latin1', 0, end)
          const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1]
          if (length === undefined) return socket.destroy(new Error(`no length: ${head}`))
          if (!head.startsWith('HTTP/1.1 200')) heard.others++
          left = Number(length) - (held.length - end - headEnd.length)
          held = Buffer.alloc(0)
        } else left -= chunk.length
        if (left > 0) return
        left = -1
        heard.answers++
        next()
      })
    })

  const all = Promise.all(Array.from({ length: load.connections }, one))
  await Promise.race([all, delay(load.ms)])
  over = true
  heard.ms = performance.now() - startedAt
  const { answers } = heard
  await all
  return { ...heard, answers }
}
