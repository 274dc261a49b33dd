import fastifyMongodb from '@fastify/mongodb'
import fastifyRedis from '@fastify/redis'
import fp from 'fastify-plugin'
import { Redis } from 'ioredis'
import { MongoClient } from 'mongodb'
import t from 'tap'
import type { Chat } from '../../schemas/chats.js'
import { api, outsideServices, register, startApp } from '../services/app.js'
import { ask, connect } from '../services/client.js'
import { eventually } from '../services/eventually.js'

const { MONGODB_URI, REDIS_URL } = outsideServices(`packages-${Date.now()}`)

/** Has the app register something else in the place of `plugin`. */
function replacing(plugin: unknown, replacement: unknown, options: object = {}) {
  return (app: object) => {
    const register: unknown = Reflect.get(app, 'register')
    if (typeof register !== 'function') throw new Error('Fastify has no register')
    Object.assign(app, {
      register(this: unknown, ...given: unknown[]) {
        return register.apply(this, given[0] === plugin ? [replacement, options] : given)
      },
    })
  }
}

const nothing = fp(async () => {})

for (const [name, plugin, setting, value] of [
  ['@fastify/mongodb', fastifyMongodb, 'MONGODB_URI', MONGODB_URI],
  ['@fastify/redis', fastifyRedis, 'REDIS_URL', REDIS_URL],
] as const) {
  const skip = value ? false : `${setting} is not set`
  t.test(`without the registration of ${name} the app does not start`, { skip }, async (t) => {
    const started = startApp(t, {}, replacing(plugin, nothing))
    await t.rejects(started, { message: new RegExp(`^${setting}: .* cannot be used`) })
  })
}

t.test(
  'what is stored goes through fastify.mongo',
  { skip: MONGODB_URI ? false : 'MONGODB_URI is not set' },
  async (t) => {
    const client = new MongoClient(MONGODB_URI ?? '', { monitorCommands: true })
    t.teardown(() => client.close(true))
    const commands: string[] = []
    client.on('commandStarted', ({ commandName }) => commands.push(commandName))
    const replace = replacing(fastifyMongodb, fastifyMongodb, { client })
    const { url } = await startApp(t, { MONGODB_URI: MONGODB_URI ?? '' }, replace)
    t.ok(commands.includes('createIndexes'))
    await register(url)
    t.ok(commands.includes('insert'))
    await client.db().dropDatabase()
  },
)

t.test(
  'what is cached, and every subscription, goes through fastify.redis',
  { skip: REDIS_URL ? false : 'REDIS_URL is not set' },
  async (t) => {
    const named = (name: string) => `${REDIS_URL}?connectionName=${name}-${process.pid}`
    const client = new Redis(named('decorator'))
    t.teardown(() => client.disconnect())
    const replace = replacing(fastifyRedis, fastifyRedis, { client })
    const { url } = await startApp(t, { REDIS_URL: named('other') }, replace)
    const user = await register(url)
    const { body: chat } = await api(url, user.token)<Chat>('POST', '/api/ai/chats', {})
    const socket = await connect(t, url, user.token)
    await ask(socket, 'join-chat', { chatId: chat.id })
    await api(url, user.token)('GET', '/api/ai/chats')
    const connections = async (name: string) => {
      const list = String(await client.client('LIST'))
      return list.split('\n').filter((line) => line.includes(` name=${name}-${process.pid} `))
    }
    await eventually('a duplicate of the decorator subscribes', async () => {
      return (await connections('decorator')).some((line) => / sub=[1-9]/.test(line))
    })
    const others = await connections('other')
    t.equal(others.length, 1)
    t.match(others[0], / sub=0 .* cmd=(ping|info) /, 'the client that was replaced only waited')
  },
)
