import t from 'tap'
import type { Message } from '../../schemas/messages.js'
import { readEvents } from '../../web/client/events.js'
import { ask, connect, record } from '../services/client.js'
import { startConversation } from '../services/conversation.js'
import { type Script, standInReply, standInThinking } from '../services/ollama-stand-in.js'

function deferred() {
  let resolve = () => {}
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

t.test('a token is told before the next one comes', async (t) => {
  const words = Array.from({ length: 20 }, (_, n) => `word${n} `)
  const heardWords = new Map(words.map((word) => [word, deferred()]))
  const script: Script = async function* () {
    for (const [content, { promise }] of heardWords) {
      yield { content }
      // Ollama waits for the client here: what holds the token back holds it back forever.
      yield { wait: promise }
    }
  }
  const { url, user, newChat } = await startConversation(t, {}, { script })
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  socket.on('message-chunk', ({ delta }) => heardWords.get(delta)?.resolve())
  const { reply } = await ask(socket, 'chat-message', { chatId: await newChat(), content: 'x' })
  t.equal((await heard.message(reply.id)).content, words.join(''))
  t.strictSame(
    heard.chunks.map(({ delta }) => delta),
    words,
  )
})

t.test('frames are 64 KiB at most and never part a pair, whatever way they go', async (t) => {
  // An odd unit first, so that every even place is inside a pair.
  const whole = `x${'😀'.repeat(60_000)}`
  const script: Script = function* () {
    yield { content: whole.slice(0, 100_001) }
    yield { content: whole.slice(100_001) }
  }
  const options = { temperature: 0, seed: 1 }
  const { url, user, newChat, messagesOf } = await startConversation(t, {}, { script })
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  // From Ollama, then from the cache in one piece.
  for (const cached of [false, true]) {
    const chatId = await newChat()
    const { reply } = await ask(socket, 'chat-message', { chatId, content: 'x', options })
    const end = await heard.message(reply.id)
    t.equal(end.usage?.cached ?? false, cached)
    t.ok(end.content === whole)
    const frames = heard.chunks.filter(({ messageId }) => messageId === reply.id)
    let length = 0
    for (const { offset, delta } of frames) {
      t.equal(offset, length)
      t.notMatch(delta, /\p{Cs}/u, 'no half of a pair')
      t.ok(Buffer.byteLength(JSON.stringify(delta)) <= 65_536)
      length += delta.length
    }
    // A burst may be cut short by the record, which has it all.
    t.ok(length > 60_000 && length <= whole.length)
    for (const offset of [0, 1, 2, 16_384, 16_385, 99_998]) {
      const path = `${url}${messagesOf(chatId)}/${reply.id}/stream?offset=${offset}`
      const { body } = await fetch(path, { headers: user.headers })
      let text: string | undefined
      if (!body) return t.fail('no body')
      for await (const { event, data } of readEvents(body)) {
        if (event !== 'message-chunk') continue
        const frame = JSON.parse(data)
        t.notMatch(frame.delta, /\p{Cs}/u)
        // From inside a pair, the whole pair comes again.
        text ??= whole.slice(0, offset > 0 && offset % 2 === 0 ? offset - 1 : offset)
        t.equal(frame.offset, text.length)
        text += frame.delta
      }
      t.ok(text === whole)
    }
  }
})

t.test('thinking goes apart, with offsets of its own, and is kept', async (t) => {
  const { standIn, url, user, newChat, read } = await startConversation(t)
  const socket = await connect(t, url, user.token)
  const heard = record(socket)
  const chatId = await newChat()
  const content = 'think=400 len=300 rate=600'
  const { reply } = await ask(socket, 'chat-message', { chatId, content })
  const end: Message = await heard.message(reply.id)
  t.equal(end.thinking, standInThinking(content))
  t.equal(end.content, standInReply(content))
  for (const thinking of [true, undefined]) {
    const frames = heard.chunks.filter((frame) => frame.thinking === thinking)
    let text = ''
    for (const { offset, delta } of frames) {
      t.equal(offset, text.length)
      text += delta
    }
    t.equal(text, thinking ? end.thinking : end.content)
  }
  t.same((await read(chatId)).messages[1], end)
  await ask(socket, 'chat-message', { chatId, content: 'len=5', options: { think: false } })
  const call = await standIn.chatCall(2)
  t.equal(call.body.think, false)
  t.match(call.body.messages[1], { role: 'assistant', content: end.content })
  t.notMatch(JSON.stringify(call.body.messages), /thinking/, 'no model is told what it thought')
})
