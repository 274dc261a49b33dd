import { Agent, type IncomingMessage, request } from 'node:http'
import type { Conversation, Ear, Slot } from './hear.js'

const agent = new Agent({ keepAlive: true })

/** A conversation with the plain pipe: Ollama's own protocol, a request a turn. */
export function throughPipe(
  { url, chatId }: Slot,
  listeners: number,
  ear: Ear,
  onChars: (chars: number) => void,
): Conversation {
  const address = `${url}/chat/${chatId}`
  let current: IncomingMessage | undefined

  function listen() {
    request(address, { agent }, (answer) => {
      readLines(answer, (content) => onChars(content.length))
    })
      .on('error', () => ear.ended(false))
      .end()
  }

  return {
    send(content) {
      ear.sending()
      const messages = [{ role: 'user', content }]
      const body = JSON.stringify({ model: 'bench', messages, stream: true })
      const post = request(address, { method: 'POST', agent }, (answer) => {
        current = answer
        for (let n = 1; n < listeners; n++) listen()
        readLines(answer, ear.text)
        answer.once('end', () => ear.ended(answer.statusCode === 200))
      })
      post.on('error', () => ear.ended(false))
      post.end(body)
    },
    pause: () => current?.pause(),
    close: () => current?.destroy(),
  }
}

function readLines(answer: IncomingMessage, onText: (content: string) => void) {
  let rest = ''
  answer.setEncoding('utf8')
  answer.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const { message } = JSON.parse(line)
      if (message?.content) onText(message.content)
    }
  })
  answer.on('error', () => {
    // The end tells that it was cut.
  })
}
