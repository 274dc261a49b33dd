import { ChatClient, storedPending, storedTokens } from 'durable-chat-client'
import { converse, outcome } from './conversation.mjs'

const { url, name, prompts, chat } = JSON.parse(decodeURIComponent(location.hash.slice(1)))
const client = new ChatClient({
  url,
  tokens: storedTokens(localStorage),
  pending: storedPending(localStorage),
})
const state = document.body.dataset
const tell = (line: string) => {
  const [word = '', value = ''] = line.split(' ')
  state[word] = value
}

/** The first window registers and converses; another one opens its chat. */
async function run() {
  if (!chat) return converse(client, name, prompts, tell)
  await client.connect()
  const conversation = client.open(chat)
  conversation.on('reply', ({ text }) => tell(`text ${text.length}`))
  return outcome(client, conversation)
}

run().then(
  (done) => {
    state.outcome = JSON.stringify(done)
  },
  (error: unknown) => {
    state.failure = String(error)
  },
)
