import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Server } from './processes.js'

/** An account with one chat. */
export interface Account {
  token: string
  chatId: string
}

export interface Seed {
  /** The database, to be copied for each server. */
  folder: string
  accounts: Account[]
  /** Each has 100 chats, all empty. */
  readers: Account[]
}

const atOnce = 8
const readersChats = 100

/** Asks the product's server. @throws Error for an answer that is not of the 200s. */
export async function ask<T>(
  server: Server,
  path: string,
  token?: string,
  body?: object,
): Promise<T> {
  const answer = await fetch(server.url + path, {
    method: body ? 'POST' : 'GET',
    headers: {
      'x-forwarded-for': someAddress(),
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  })
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`)
  return (await answer.json()) as T
}

/** One address has a limit of its own. */
export const someAddress = () =>
  `10.${[1, 2, 3].map(() => Math.floor(Math.random() * 256)).join('.')}`

export async function register(server: Server, username: string): Promise<string> {
  const email = `${username}@example.org`
  const account = { username, email, password: 'correct horse' }
  const path = '/api/auth/register'
  return (await ask<{ token: string }>(server, path, undefined, account)).token
}

export async function createChat(server: Server, token: string): Promise<string> {
  return (await ask<{ id: string }>(server, '/api/ai/chats', token, {})).id
}

/** Fills a database through the product's own API. @param server is stopped. */
export async function fill(
  server: Server,
  folder: string,
  accounts: number,
  readers: number,
): Promise<Seed> {
  const made: Account[] = []
  const numbers = Array.from({ length: accounts }, (_, n) => n).values()
  const worker = async () => {
    for (const n of numbers) {
      const token = await register(server, `user${n}`)
      made.push({ token, chatId: await createChat(server, token) })
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  const reading: Account[] = []
  for (let n = 0; n < readers; n++) {
    const token = await register(server, `reader${n}`)
    let chatId = ''
    for (let chats = 0; chats < readersChats; chats++) chatId = await createChat(server, token)
    reading.push({ token, chatId })
  }
  await server.stop()
  return { folder, accounts: made, readers: reading }
}

/** A copy of the database, of one server's own. */
export function copySeed(seed: Seed, to: string): string {
  mkdirSync(to, { recursive: true })
  cpSync(join(seed.folder, 'chat.db'), join(to, 'chat.db'))
  return to
}
