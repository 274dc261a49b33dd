import t from 'tap'
import { createLineSplitter } from '../../src/ollama/ndjson.js'

function split(chunks: readonly Buffer[], maxBytes?: number): string[] {
  const lines: string[] = []
  const splitter = createLineSplitter((line) => lines.push(line), maxBytes)
  for (const chunk of chunks) splitter.push(chunk)
  splitter.end()
  return lines
}

const sample = '{"a":"é日😀👩‍👩‍👧‍👦e\u0301"}\n\r\n{"b":"\ufffd"}\r\n\n{"c":3}'
const wanted = ['{"a":"é日😀👩‍👩‍👧‍👦e\u0301"}', '{"b":"\ufffd"}', '{"c":3}']

t.test('lines are the same wherever one chunk ends', async (t) => {
  const bytes = Buffer.from(sample)
  for (let at = 0; at <= bytes.length; at += 1) {
    t.strictSame(split([bytes.subarray(0, at), bytes.subarray(at)]), wanted, `cut at byte ${at}`)
  }
})

t.test('lines are the same when every byte is a chunk', async (t) => {
  t.strictSame(split([...Buffer.from(sample)].map((byte) => Buffer.of(byte))), wanted)
})

t.test('a chunk may be overwritten once it was pushed', async (t) => {
  const lines: string[] = []
  const splitter = createLineSplitter((line) => lines.push(line))
  const chunk = Buffer.from('held')
  splitter.push(chunk)
  chunk.fill('x')
  splitter.push(Buffer.from(' on\n'))
  t.strictSame(lines, ['held on'])
})

t.test('a line of exactly the limit passes, one byte more is refused at once', async (t) => {
  const full = Buffer.alloc(100, 'x')
  t.strictSame(split([full, Buffer.from('\n')], 100), [full.toString()])
  t.strictSame(split([Buffer.concat([full, Buffer.from('\n')])], 100), [full.toString()])
  const code = { code: 'MODEL_BAD_RESPONSE' }
  const splitter = createLineSplitter(() => t.fail('no line has ended'), 100)
  splitter.push(full)
  t.throws(() => splitter.push(Buffer.from('x')), code)
  t.throws(() => split([Buffer.from(`${full}x\n`)], 100), code)
})

t.test('the limit of a line is 1 MiB', async (t) => {
  const half = Buffer.alloc(512 * 1024, 'x')
  t.equal(split([half, half])[0]?.length, 1024 * 1024)
  t.throws(() => split([half, half, Buffer.from('x')]), { code: 'MODEL_BAD_RESPONSE' })
})

t.test('what is not UTF-8 is refused', async (t) => {
  const sequences = ['c328', 'ff', 'e28228', 'f0288cbc', 'eda080', 'c0af', 'f4908080', 'e282']
  for (const hex of sequences) {
    const bytes = Buffer.concat([Buffer.from('"'), Buffer.from(hex, 'hex'), Buffer.from('"\n')])
    t.throws(() => split([bytes]), { code: 'MODEL_BAD_RESPONSE' }, hex)
    const parts = [...bytes].map((byte) => Buffer.of(byte))
    t.throws(() => split(parts), { code: 'MODEL_BAD_RESPONSE' }, `${hex} byte by byte`)
  }
})
