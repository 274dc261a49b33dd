import fp from 'fastify-plugin'
import { Accounts } from '../src/chat/accounts.js'

declare module 'fastify' {
  interface FastifyInstance {
    accounts: Accounts
  }
}

/** What concerns a user's account as a whole: its sessions, and what runs for it. */
export default fp(
  async (fastify) => {
    const { store, cache, sessions, generations, log } = fastify
    fastify.decorate('accounts', new Accounts(store, cache, sessions, generations, log))
  },
  { name: 'accounts', dependencies: ['db', 'redis', 'auth', 'chat'] },
)
