import { ChatClient } from 'durable-chat-client'
import { converse } from './conversation.mjs'

/** Called by the test, which is told of each line. */
export async function run(
  url: string,
  name: string,
  prompts: [string, string],
  tell: (line: string) => void,
): Promise<void> {
  const client = new ChatClient({ url })
  const outcome = await converse(client, name, prompts, tell)
  tell(`outcome ${JSON.stringify(outcome)}`)
  await client.logOut()
  client.close()
}
