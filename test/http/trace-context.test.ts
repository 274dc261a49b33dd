import t from 'tap'
import { traceIdOf } from '../../src/http/trace-context.js'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const parentId = 'b7ad6b7169203331'
const valid = `00-${traceId}-${parentId}-01`

t.test('the trace id of a traceparent', async (t) => {
  t.equal(traceIdOf(valid), traceId)
  t.equal(traceIdOf(`00-${traceId}-${parentId}-ff`), traceId, 'any flags')
  t.equal(traceIdOf(`01-${traceId}-${parentId}-01`), traceId, 'a later version')
  t.equal(traceIdOf(`cc-${traceId}-${parentId}-01-what the future will be like`), traceId)
})

t.test('a header that is not valid counts as none', async (t) => {
  for (const header of [
    undefined,
    '',
    [valid],
    [valid, valid],
    `${valid}, ${valid}`,
    `${valid}-more`,
    `${valid}.`,
    ` ${valid}`,
    `ff-${traceId}-${parentId}-01`,
    `01-${traceId}-${parentId}-01.more`,
    `0-${traceId}-${parentId}-01`,
    `00-${'0'.repeat(32)}-${parentId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${parentId}-01`,
    `00-${traceId.slice(1)}-${parentId}-01`,
    `00-${traceId}-${parentId}`,
    `00-${traceId}-${parentId}-1`,
    `00-${traceId}-${parentId}-0g`,
    `00-${traceId}\n-${parentId}-01`,
  ]) {
    t.equal(traceIdOf(header), undefined, String(header))
  }
})
