import { setTimeout as delay } from 'node:timers/promises'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { inTime } from '../within.js'

export type RedisClient = Redis | Cluster

type OnError = (error: unknown) => void

const pingTimeoutMs = 250
const pingEveryMs = 50
const closeMs = 200
/** The first version with `XRANGE key (id`, which reads a stream from after an entry. */
const oldestSupported = [6, 2] as const

const retryStrategy = (attempt: number) => Math.min(attempt * 100, 1000)

/** For each connection to one node. */
const nodeOptions: RedisOptions = {
  connectTimeout: 2000,
  // A last resort: callers wait less.
  commandTimeout: 2000,
  // A connection that answers nothing for this long is closed and opened again.
  socketTimeout: 3000,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
}

/**
 * Connects to a Redis, or to a cluster where there are several URLs, and waits until it answers.
 * @param onError called with each error of a connection.
 * @returns the client, and how to close it.
 * @throws what Redis or the network says, at once when Redis refuses, else after `timeoutMs`.
 */
export async function connectRedis(
  urls: readonly string[],
  { timeoutMs, onError }: { timeoutMs: number; onError: OnError },
) {
  const client = createClient(urls)
  try {
    await untilAnswering(client, timeoutMs, onError)
  } catch (error) {
    client.disconnect()
    throw error
  }
  return {
    client,
    /** Lets pending commands finish, unless Redis is away. */
    async close() {
      // If QUIT fails or hangs, disconnecting is all that is left.
      await inTime(client.quit(), closeMs).catch(() => {})
      client.disconnect()
    },
  }
}

function createClient(urls: readonly string[]): RedisClient {
  const [first = ''] = urls
  if (urls.length === 1) {
    return new Redis(first, { ...nodeOptions, enableOfflineQueue: false, retryStrategy })
  }
  return new Cluster([...urls], {
    enableOfflineQueue: false,
    clusterRetryStrategy: retryStrategy,
    // For the nodes that the cluster names, too.
    redisOptions: { ...nodeOptions, ...credentialsOf(first) },
  })
}

function credentialsOf(url: string): RedisOptions {
  const { protocol, username, password } = new URL(url)
  return {
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
    ...(protocol === 'rediss:' && { tls: {} }),
  }
}

async function untilAnswering(
  client: RedisClient,
  timeoutMs: number,
  onError: OnError,
): Promise<void> {
  const deadline = Date.now() + timeoutMs
  let last: unknown
  client.on('error', (error: unknown) => {
    // A cluster's own error says only that no node would do.
    last = (error instanceof Error && 'lastNodeError' in error && error.lastNodeError) || error
    onError(error)
  })
  for (;;) {
    try {
      await ping(client)
      // No request shall wait for a node of the cluster to be connected.
      if (client instanceof Cluster) await Promise.all(client.nodes('master').map(ping))
      return
    } catch (error) {
      const cause = last ?? error
      if (isRefusal(cause) || isRefusal(error) || Date.now() >= deadline) throw cause
    }
    await delay(pingEveryMs)
  }
}

const ping = (node: RedisClient) => inTime(node.ping(), pingTimeoutMs)

/** Whether Redis itself refused, because of a wrong password for example, and would again. */
const isRefusal = (error: unknown) =>
  error instanceof Error &&
  error.name === 'ReplyError' &&
  !/^(LOADING|MASTERDOWN)/.test(error.message)

/**
 * @throws Error that names the needed version when Redis, or a node of a cluster, is older. A Redis
 * that does not tell its version, or not to this user, is accepted.
 */
export async function refuseOldRedis(client: RedisClient): Promise<void> {
  const nodes = client instanceof Cluster ? client.nodes() : [client]
  const answers = await Promise.allSettled(nodes.map((node) => node.info('server')))
  for (const answer of answers) {
    const info = answer.status === 'fulfilled' ? answer.value : ''
    const [, version, major, minor] = /^redis_version:((\d+)\.(\d+)\S*)/m.exec(info) ?? []
    if (version === undefined) continue
    const newer = Number(major) - oldestSupported[0] || Number(minor) - oldestSupported[1]
    if (newer < 0) {
      throw new Error(
        `it is version ${version}, and ${oldestSupported.join('.')} or later is wanted`,
      )
    }
  }
}

/**
 * The Redis itself, or a node of a cluster, the same while it is connected. Every node passes on
 * what is published to any of them, but only messages through one node arrive in order.
 * @throws Error when no node is known.
 */
export function oneNode(client: RedisClient): () => Redis {
  if (!(client instanceof Cluster)) return () => client
  let node: Redis | undefined
  return () => {
    if (node?.status === 'ready') return node
    const nodes = client.nodes('master')
    const connected = nodes.filter(({ status }) => status === 'ready')
    const choice = connected.length > 0 ? connected : nodes
    node = choice[Math.floor(Math.random() * choice.length)]
    if (!node) throw new Error('no node of the cluster is known')
    return node
  }
}

/**
 * Opens a connection for subscriptions, which does not connect again by itself: its user opens
 * another, and learns so what it did not hear.
 * @throws Error when no node of a cluster is known.
 */
export function openSubscriber(client: RedisClient, onError: OnError): Redis {
  const subscriber = oneNode(client)().duplicate({
    ...nodeOptions,
    lazyConnect: false,
    autoResubscribe: false,
    retryStrategy: () => null,
  })
  return subscriber.on('error', onError)
}
