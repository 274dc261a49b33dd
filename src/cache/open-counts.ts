import { randomUUID } from 'node:crypto'
import type { RedisClient } from './redis-connection.js'

/** Each tick renews a part of the counts, so that all are renewed within a third of the lease. */
const ticksPerLease = 60
const ticksPerRound = 20

/**
 * Stores how many a server has open under a key, and adds up the other servers'. KEYS: one hash of
 * `server` → `<count> <when its lease lapses>`. ARGV: server, count, lease.
 */
const tellScript = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local elsewhere = 0
for n = 1, #all, 2 do
  local count, lapses = string.match(all[n + 1], '^(%d+) (%d+)$')
  if all[n] ~= ARGV[1] then
    if tonumber(lapses) > now then elsewhere = elsewhere + tonumber(count)
    else redis.call('HDEL', KEYS[1], all[n]) end
  end
end
if ARGV[2] == '0' then redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%d', now + ARGV[3]))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return elsewhere
`

interface SharedRedis {
  client: RedisClient
  /** Runs a command; resolves with undefined when Redis is away or refuses it. */
  run<T>(operation: () => Promise<T>): Promise<T | undefined>
}

/**
 * Counts what is open under a key at all servers together: a user's sockets, say. Each server renews
 * its count as a lease, so the count of a server that died lapses in a minute.
 */
export class OpenCounts {
  readonly #server = randomUUID()
  readonly #counts = new Map<string, number>()
  #round = this.#counts.keys()
  #timer: NodeJS.Timeout | undefined

  /**
   * @param redis undefined: this server is the only one.
   * @param leaseMs how long the count of a silent server lasts, in milliseconds.
   */
  constructor(
    private readonly redis?: SharedRedis,
    private readonly leaseMs = 60_000,
  ) {}

  /**
   * Opens one more, unless `max` are open.
   * @returns what closes it, or undefined.
   */
  async open(key: string, max: number): Promise<(() => void) | undefined> {
    const here = (this.#counts.get(key) ?? 0) + 1
    if (here > max) return undefined
    this.#counts.set(key, here)
    this.#timer ??= setInterval(() => this.#renewPart(), this.leaseMs / ticksPerLease).unref()
    let isOpen = true
    const close = () => {
      if (isOpen) this.#close(key)
      isOpen = false
    }
    const elsewhere = await this.#tell(key, here)
    if (here + elsewhere <= max) return close
    close()
    return undefined
  }

  /** Stops renewing: the counts that are left lapse. */
  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #close(key: string): void {
    const left = (this.#counts.get(key) ?? 1) - 1
    if (left > 0) this.#counts.set(key, left)
    else this.#counts.delete(key)
    void this.#tell(key, left)
    if (this.#counts.size === 0) this.stop()
  }

  #renewPart(): void {
    for (let n = Math.ceil(this.#counts.size / ticksPerRound); n > 0; n--) {
      const { value: key, done } = this.#round.next()
      if (done) {
        this.#round = this.#counts.keys()
        return
      }
      void this.#tell(key, this.#counts.get(key) ?? 0)
    }
  }

  /**
   * Tells the other servers how many are open here.
   * @returns how many are open at the others, as far as Redis knows.
   */
  async #tell(key: string, count: number): Promise<number> {
    if (!this.redis) return 0
    const { client, run } = this.redis
    const values = [this.#server, count, this.leaseMs]
    const elsewhere = await run(() => client.eval(tellScript, 1, key, ...values))
    return typeof elsewhere === 'number' ? elsewhere : 0
  }
}
