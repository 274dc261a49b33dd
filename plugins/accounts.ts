import fp from 'fastify-plugin'
import { Accounts } from '../src/chats/accounts.js'

declare module 'fastify' {
  interface FastifyInstance {
    accounts: Accounts
  }
}

/** Decorates the operations on a whole account: they end its sessions and its running replies. */
export default fp(
  async (fastify) => {
    const { store, cache, sessions, generations, log } = fastify
    fastify.decorate('accounts', new Accounts({ store, cache, sessions, generations, log }))
  },
  { name: 'accounts', dependencies: ['db', 'redis', 'auth', 'chat'] },
)
