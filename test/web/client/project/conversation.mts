import { type ChatClient, ChatError, type Conversation } from 'durable-chat-client'

/** What was shown in the end, and what is stored. */
export interface Outcome {
  shown: string[]
  stored: string[]
}

/**
 * Registers and holds a conversation: the first message before the server is killed, the second while it
 * is away.
 */
export async function converse(
  client: ChatClient,
  name: string,
  prompts: readonly [string, string],
  tell: (line: string) => void,
): Promise<Outcome> {
  await client.register({
    username: name,
    email: `${name}@example.org`,
    password: 'correct horse battery',
  })
  await client.connect()
  const chat = await client.rest.createChat()
  tell(`chat ${chat.id}`)
  const conversation = client.open(chat.id)
  conversation.on('reply', ({ text }) => tell(`text ${text.length}`))
  const away = new Promise<void>((resolve) => {
    client.on('connection', ({ status }) => {
      tell(`connection ${status}`)
      if (status === 'connecting') resolve()
    })
  })
  await client.send(chat.id, prompts[0])
  await away
  await client.send(chat.id, prompts[1])
  return outcome(client, conversation)
}

/** Resolves when all four messages of the conversation have ended. */
export async function outcome(client: ChatClient, conversation: Conversation): Promise<Outcome> {
  await new Promise<void>((resolve) => {
    const look = () => {
      const ended = conversation.messages.filter(({ status }) => status === 'complete')
      if (ended.length === 4) resolve()
    }
    conversation.on('messages', look)
    look()
  })
  const shown = conversation.messages.map((message) => conversation.view(message).text)
  const { messages } = await client.rest.readChat(conversation.chatId)
  const refused = await client.rest.readMessage(conversation.chatId, '0'.repeat(24)).catch(codeOf)
  if (refused !== 'MESSAGE_NOT_FOUND') throw new Error(`not refused: ${JSON.stringify(refused)}`)
  return { shown, stored: messages.map(({ content }) => content) }
}

const codeOf = (error: unknown) => (error instanceof ChatError ? error.code : `${error}`)
