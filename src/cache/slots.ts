import { randomUUID } from 'node:crypto'
import { slotKeys } from './keys.js'
import type { RedisClient } from './redis-connection.js'

/** A reply that asks for a slot, or has one. */
interface SlotRequest {
  id: string
  userId: string
}

/** The slots at Ollama, of which all servers together have a fixed number. */
export interface Slots {
  /**
   * Asks for a slot; a refusal keeps the user's turn for a second.
   * @returns whether it is granted. While Redis is away it is: this server's own limits hold then.
   */
  take(request: SlotRequest): Promise<boolean>
  release(request: SlotRequest): Promise<void>
  /** Tells the other servers how many of a user's requests wait here. @returns how many wait there. */
  tellWaiting(userId: string, waiting: number): Promise<number>
  /**
   * Renews this server's slots, and tells the others how many requests of each user wait here.
   * @returns how many wait at the others, and the users of what runs there.
   */
  renew(
    held: readonly SlotRequest[],
    waiting: ReadonlyMap<string, number>,
  ): Promise<{ waiting: number; running: string[] }>
}

interface SlotLimits {
  maxConcurrent: number
  userMaxConcurrent: number
  /** After how long a slot that is not renewed is free again, in milliseconds. */
  leaseMs: number
}

/** How long a user who was refused keeps its turn, in milliseconds. */
const turnMs = 1000
/** How many users' last turns are remembered, and for how long after anybody was served. */
const maxServed = 10_000
const servedMs = 60 * 60_000

/*
 * Grants a slot when one is free, the user is below its own limit, and no waiting user who could have
 * it was served less recently. KEYS: running, wanting, served. ARGV: id, user, slots, slots of a user,
 * lease, turn, users remembered, for how long. A member of `running` is `<user>:<id>`.
 */
const takeScript = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local id, user, max, userMax = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local member = user .. ':' .. id
local running = redis.call('ZRANGE', KEYS[1], 0, -1)
local count = {}
for _, entry in ipairs(running) do
  if entry == member then return 1 end
  local of = string.match(entry, '^[^:]*')
  count[of] = (count[of] or 0) + 1
end
if (count[user] or 0) >= userMax then
  redis.call('ZREM', KEYS[2], user)
  return 0
end
local last = tonumber(redis.call('ZSCORE', KEYS[3], user) or 0)
local mayRun = #running < max
if mayRun then
  for _, other in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if other ~= user and (count[other] or 0) < userMax
      and tonumber(redis.call('ZSCORE', KEYS[3], other) or 0) < last then
      mayRun = false
      break
    end
  end
end
if not mayRun then
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[6]), user)
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  return 0
end
redis.call('ZREM', KEYS[2], user)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[5]), member)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('ZADD', KEYS[3], now, user)
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[7]))
redis.call('PEXPIRE', KEYS[3], ARGV[8])
return 1
`

/*
 * Stores how many requests wait at a server. KEYS: one for each count. ARGV: server, lease, counts. A
 * member of a key is `<server>:<count>`. Returns for each key how many wait elsewhere.
 */
const waitingScript = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[2])
local elsewhere = {}
for n, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  elsewhere[n] = 0
  for _, entry in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local server, waiting = string.match(entry, '^(.*):(%d+)$')
    if server == ARGV[1] then redis.call('ZREM', key, entry)
    else elsewhere[n] = elsewhere[n] + tonumber(waiting) end
  end
  local count = ARGV[n + 2]
  if count ~= '0' then
    redis.call('ZADD', key, now + lease, ARGV[1] .. ':' .. count)
    redis.call('PEXPIRE', key, lease)
  end
end
return elsewhere
`

/* Renews slots. KEYS: running. ARGV: lease, and the members held. Returns the members of others. */
const renewScript = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local held = {}
for n = 2, #ARGV do
  held[ARGV[n]] = true
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[n])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
local others = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if not held[member] then others[#others + 1] = member end
end
return others
`

/**
 * The slots in Redis. Those of a server that dies are free when their lease lapses.
 * @param run runs a command; resolves with undefined when Redis is away or refuses it.
 */
export function createSlots(
  client: RedisClient,
  run: <T>(operation: () => Promise<T>) => Promise<T | undefined>,
  { maxConcurrent, userMaxConcurrent, leaseMs }: SlotLimits,
): Slots {
  const server = randomUUID()
  const { running, wanting, served } = slotKeys
  const memberOf = ({ id, userId }: SlotRequest) => `${userId}:${id}`

  async function tell(keys: string[], counts: number[]): Promise<number[]> {
    const elsewhere = await run(() =>
      client.eval(waitingScript, keys.length, ...keys, server, leaseMs, ...counts),
    )
    return Array.isArray(elsewhere) ? elsewhere.map(Number) : []
  }

  return {
    async take({ id, userId }) {
      const limits = [maxConcurrent, userMaxConcurrent, leaseMs, turnMs, maxServed, servedMs]
      const taken = await run(() =>
        client.eval(takeScript, 3, running, wanting, served, id, userId, ...limits),
      )
      return taken !== 0
    },

    async release(request) {
      await run(() => client.zrem(running, memberOf(request)))
    },

    async tellWaiting(userId, waiting) {
      const [elsewhere = 0] = await tell([slotKeys.waitingOf(userId)], [waiting])
      return elsewhere
    },

    async renew(held, waiting) {
      const members = held.map(memberOf)
      const counts = [...waiting.values()]
      const all = counts.reduce((sum, count) => sum + count, 0)
      const keys = [slotKeys.waiting, ...Array.from(waiting.keys(), slotKeys.waitingOf)]
      const [[elsewhere = 0], others] = await Promise.all([
        tell(keys, [all, ...counts]),
        run(() => client.eval(renewScript, 1, running, leaseMs, ...members)),
      ])
      const userOf = (member: unknown) => String(member).split(':', 1)[0] ?? ''
      return { waiting: elsewhere, running: Array.isArray(others) ? others.map(userOf) : [] }
    },
  }
}
