import { Cluster } from 'ioredis'
import type { RedisClient } from './redis.js'

/** Reading a stream from after an entry, `XRANGE key (id`, came with it. */
const oldestSupported = [6, 2] as const

/**
 * @throws Error that names the version wanted, where Redis, or one of a cluster, is older. One that
 * does not tell its version, or not to this user, is believed.
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
