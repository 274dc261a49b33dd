import { randomUUID } from 'node:crypto'
import { placesKeys } from './keys.js'
import type { RedisClient } from './redis.js'

/** Who asks for a place. */
interface PlaceRequest {
  id: string
  userId: string
}

/** The places at Ollama, of which all servers together have so many. */
export interface Places {
  /**
   * Asks for a place; a refusal keeps the user's turn for a second.
   * @returns whether it is granted, as it is when Redis is away: this server's own limits hold then.
   */
  take(request: PlaceRequest): Promise<boolean>
  release(request: PlaceRequest): Promise<void>
  /**
   * Keeps the places that this server has, and tells the others how many requests wait here.
   * @returns how many wait at the others.
   */
  renew(held: readonly PlaceRequest[], waiting: number): Promise<number>
}

interface PlacesOptions {
  maxConcurrent: number
  userMaxConcurrent: number
  /** After how long a place that is not renewed is free again, in milliseconds. */
  leaseMs: number
}

/** A user who was refused has its turn kept for this long, in milliseconds. */
const turnMs = 1000
/** Users whose last turn is remembered. */
const maxServed = 10_000

/*
 * A place is given when one is free, the user has not all of its own, and no user who waits and
 * could have it was served less recently. KEYS: running, wanting, served. ARGV: id, user, places,
 * places of a user, lease, turn, users remembered. A member of `running` is `<user>:<id>`.
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
  return 0
end
redis.call('ZREM', KEYS[2], user)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[5]), member)
redis.call('ZADD', KEYS[3], now, user)
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[7]))
return 1
`

/*
 * KEYS: running, waiting. ARGV: server, how many wait there, lease, and the members it holds. A
 * member of `waiting` is `<server>:<how many>`. Returns how many wait elsewhere.
 */
const renewScript = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lapses = now + tonumber(ARGV[3])
for n = 4, #ARGV do redis.call('ZADD', KEYS[1], lapses, ARGV[n]) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local elsewhere = 0
for _, entry in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local server, waiting = string.match(entry, '^(.*):(%d+)$')
  if server == ARGV[1] then redis.call('ZREM', KEYS[2], entry)
  else elsewhere = elsewhere + tonumber(waiting) end
end
if ARGV[2] ~= '0' then redis.call('ZADD', KEYS[2], lapses, ARGV[1] .. ':' .. ARGV[2]) end
return elsewhere
`

/**
 * The places in Redis. A server that dies gives its places back when their lease lapses.
 * @param run runs a command; resolves with undefined when Redis is away or refuses it.
 */
export function createPlaces(
  client: RedisClient,
  run: <T>(operation: () => Promise<T>) => Promise<T | undefined>,
  { maxConcurrent, userMaxConcurrent, leaseMs }: PlacesOptions,
): Places {
  const server = randomUUID()
  const { running, wanting, served, waiting: waitingKey } = placesKeys
  const memberOf = ({ id, userId }: PlaceRequest) => `${userId}:${id}`

  return {
    async take({ id, userId }) {
      const limits = [maxConcurrent, userMaxConcurrent, leaseMs, turnMs, maxServed]
      const taken = await run(() =>
        client.eval(takeScript, 3, running, wanting, served, id, userId, ...limits),
      )
      return taken !== 0
    },

    async release(request) {
      await run(() => client.zrem(running, memberOf(request)))
    },

    async renew(held, waiting) {
      const members = held.map(memberOf)
      const elsewhere = await run(() =>
        client.eval(renewScript, 2, running, waitingKey, server, waiting, leaseMs, ...members),
      )
      return typeof elsewhere === 'number' ? elsewhere : 0
    },
  }
}
