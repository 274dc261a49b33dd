import t from 'tap'
import { headersOf } from '../../src/http/headers-of.js'

t.test('the headers that a middleware sets are given by their names in lower case', async (t) => {
  const headers = headersOf((_request, response, next) => {
    response.setHeader('X-Frame-Options', 'DENY')
    response.setHeader('Vary', ['Accept', 'Origin'])
    next()
  })
  t.strictSame(headers, { 'x-frame-options': 'DENY', vary: ['Accept', 'Origin'] })
})

t.test('a header that the middleware removes again is not among them', async (t) => {
  const headers = headersOf((_request, response, next) => {
    response.setHeader('X-Powered-By', 'anybody')
    response.removeHeader('X-Powered-By')
    next()
  })
  t.strictSame(headers, {})
})

t.test('what a middleware refuses is thrown', async (t) => {
  const refused = new Error('no such directive')
  t.throws(() => headersOf((_request, _response, next) => next(refused)), refused)
})
