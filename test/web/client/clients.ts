import { randomBytes } from 'node:crypto'
import type { ChatClientOptions } from '../../../web/client/chat-client.js'
import { ChatClient } from '../../../web/client/chat-client.js'
import { testPassword } from '../../services/app.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

export function newAccount() {
  const username = `user-${randomBytes(6).toString('hex')}`
  return { username, email: `${username}@example.org`, password: testPassword }
}

/** A client that is closed with its test. */
export function newClient(t: Teardown, options: ChatClientOptions) {
  const client = new ChatClient(options)
  t.teardown(() => client.close())
  return client
}

/** A client of a new account, which is signed in, with the requests that it sends. */
export async function signedInClient(t: Teardown, options: ChatClientOptions) {
  const requests: string[] = []
  const client = newClient(t, {
    fetch: (request) => {
      requests.push(`${request.method} ${new URL(request.url).pathname}`)
      return fetch(request)
    },
    ...options,
  })
  const account = newAccount()
  const user = await client.register(account)
  const countOf = (call: string) => requests.filter((request) => request === call).length
  return { client, account, user, requests, countOf }
}
