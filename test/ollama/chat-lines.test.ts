import t from 'tap'
import { parseChatLine } from '../../src/ollama/chat-lines.js'

t.test('a count that is infinite, negative or no number is not taken', async (t) => {
  for (const count of ['1e999', '-1', '"7"', 'null', '{}']) {
    const { result } = parseChatLine(`{"done":true,"eval_count":${count},"total_duration":1e6}`)
    t.strictSame(result, { totalMs: 1 }, count)
  }
})
