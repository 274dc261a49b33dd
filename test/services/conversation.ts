import type { Chat, ChatInput, ChatWithMessages } from '../../schemas/chats.js'
import type { MessageInput, Turn } from '../../schemas/messages.js'
import { api, register, startApp } from './app.js'
import { type StandInOptions, startStandIn } from './ollama-stand-in.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

/** A new user's calls over REST. */
export async function converse(url: string) {
  const user = await register(url)
  const call = api(url, user.token)
  const messagesOf = (chatId: string) => `/api/ai/chats/${chatId}/messages`
  return {
    user,
    call,
    messagesOf,
    async newChat(input: ChatInput = {}): Promise<string> {
      return (await call<Chat>('POST', '/api/ai/chats', input)).body.id
    },
    /** Sends a message and answers when its reply has ended. */
    send<T = Turn>(chatId: string, input: MessageInput, headers: Record<string, string> = {}) {
      return call<T>('POST', messagesOf(chatId), input, headers)
    },
    /** Sends a message and answers as soon as it is stored. */
    post<T = Turn>(chatId: string, input: MessageInput, headers: Record<string, string> = {}) {
      return call<T>('POST', messagesOf(chatId), input, { prefer: 'respond-async', ...headers })
    },
    async read(chatId: string): Promise<ChatWithMessages> {
      return (await call<ChatWithMessages>('GET', `/api/ai/chats/${chatId}?limit=100`)).body
    },
  }
}

/** The whole app over a stand-in for Ollama, and a user of it. */
export async function startConversation(
  t: Teardown,
  settings: Readonly<Record<string, string>> = {},
  options: StandInOptions = {},
  prepare?: Parameters<typeof startApp>[2],
  appOptions?: Parameters<typeof startApp>[3],
) {
  const standIn = await startStandIn(options)
  t.teardown(() => standIn.close())
  const server = await startApp(
    t,
    { OLLAMA_API_URL: standIn.url, ...settings },
    prepare,
    appOptions,
  )
  return { standIn, ...server, ...(await converse(server.url)) }
}
