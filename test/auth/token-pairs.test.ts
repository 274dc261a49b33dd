import t from 'tap'
import { type AccessClaims, createTokens } from '../../src/auth/tokens.js'
import { newId } from '../../src/ids.js'

const secret = 'a secret of the tests, of 32 bytes and more'
const lifeSeconds = 900

/** A signer whose tokens are their claims as JSON, with an end that a signature may have. */
const asJson = {
  sign: (claims: AccessClaims) => `${JSON.stringify(claims)}A`,
  verify: (token: string): unknown => JSON.parse(token.slice(0, -1)),
}
const tokens = createTokens(secret, lifeSeconds, asJson)

const aSession = (fields = {}) => ({
  id: newId(),
  userId: newId(),
  generation: 4,
  rotatedAt: new Date(1_700_000_000_999),
  ...fields,
})

const claimsOf = (token: string) => JSON.parse(token.slice(0, -1)) as AccessClaims

t.test('a session’s pair names its user, itself and its end', async (t) => {
  const session = aSession()
  const { token, refreshToken, expiresIn } = tokens.pair(session, 1_700_000_000_999)
  const { jti, ...claims } = claimsOf(token)
  t.same(claims, {
    iss: 'chat',
    aud: 'chat',
    typ: 'access',
    sub: session.userId,
    sid: session.id,
    iat: 1_700_000_000,
    exp: 1_700_000_900,
  })
  t.match(jti, /^[\w-]{43}$/)
  t.match(refreshToken, new RegExp(`^${session.id}\\.4\\.[\\w-]{43}$`))
  t.equal(expiresIn, 900)
  t.equal(tokens.lifeMs, 900_000)
})

t.test(
  'a pair tells how long it has to live, in whole seconds, never less than none',
  async (t) => {
    const session = aSession({ rotatedAt: new Date(1_700_000_000_000) })
    const left = (now: number) => tokens.pair(session, now).expiresIn
    t.equal(left(1_700_000_000_000), 900)
    t.equal(left(1_700_000_000_001), 900)
    t.equal(left(1_700_000_001_000), 899)
    t.equal(left(1_700_000_899_999), 1)
    t.equal(left(1_700_000_900_000), 0)
    t.equal(left(1_700_009_000_000), 0)
    const { expiresIn } = tokens.pair(aSession({ rotatedAt: new Date() }))
    t.ok(expiresIn > 0 && expiresIn <= 900, 'by the clock where no time is given')
  },
)

t.test('the same generation gives the same pair again, another one another', async (t) => {
  const session = aSession()
  const pair = tokens.pair(session, 1_700_000_000_000)
  t.same(createTokens(secret, lifeSeconds, asJson).pair(session, 1_700_000_000_000), pair)
  for (const other of [
    { ...session, generation: 5 },
    { ...session, id: newId() },
  ]) {
    const { token, refreshToken } = tokens.pair(other, 1_700_000_000_000)
    t.not(claimsOf(token).jti, claimsOf(pair.token).jti)
    t.not(refreshToken.split('.')[2], pair.refreshToken.split('.')[2])
  }
  const elsewhere = createTokens(`${secret}!`, lifeSeconds, asJson).pair(session, 1)
  t.not(elsewhere.refreshToken, pair.refreshToken)
  t.not(claimsOf(elsewhere.token).jti, claimsOf(pair.token).jti)
  t.not(pair.refreshToken.split('.')[2], claimsOf(pair.token).jti, 'one is not told by the other')
})

t.test('a pair stays the same from one version of the server to the next', async (t) => {
  const id = '0123456789abcdef01234567'
  const rotatedAt = new Date(1_700_000_000_000)
  const { token, refreshToken } = tokens.pair(aSession({ id, generation: 3, rotatedAt }))
  t.equal(refreshToken, `${id}.3.ezcz-bxFSo9J1IxwN6zA4hT_vI9hL8XzZB9VNn-QJiw`)
  t.equal(claimsOf(token).jti, 'dVC1EkuqgXWPb17CtYBrhWtdZ-5UHjTk1ltM1lvPkiI')
})

t.test('a refresh token is read by its own server’s secret alone', async (t) => {
  const session = aSession({ generation: 12 })
  const { refreshToken } = tokens.pair(session)
  for (const generation of [0, 1, 12, 123, 999_999_999]) {
    const { refreshToken } = tokens.pair({ ...session, generation })
    t.same(tokens.readRefresh(refreshToken), { sessionId: session.id, generation })
  }
  t.equal(createTokens(`${secret}!`, lifeSeconds, asJson).readRefresh(refreshToken), undefined)
})

t.test('a refresh token of any other text is none', async (t) => {
  const session = aSession({ generation: 0 })
  const { refreshToken, token } = tokens.pair(session)
  t.same(tokens.readRefresh(refreshToken), { sessionId: session.id, generation: 0 })
  const [id = '', generation = '', mac = ''] = refreshToken.split('.')
  for (const wrong of [
    '',
    token,
    id,
    `${id}.${generation}`,
    `${id}.1.${mac}`,
    `${id}.00.${mac}`,
    `${id}.-0.${mac}`,
    `${id}..${mac}`,
    `${id}.1000000000.${mac}`,
    `${newId()}.${generation}.${mac}`,
    `${id.toUpperCase()}.${generation}.${mac}`,
    `${id.slice(1)}.${generation}.${mac}`,
    `x${refreshToken}`,
    `${refreshToken}x`,
    ` ${refreshToken}`,
    `${refreshToken}\n`,
    `${refreshToken}=`,
    refreshToken.slice(0, -1),
    refreshToken.replaceAll('.', 'x'),
    `${id}x${generation}.${mac}`,
    `${id}.${generation}x${mac}`,
    `${id}.${generation}.${'A'.repeat(43)}`,
    `${id}.${generation}.${'é'.repeat(43)}`,
  ]) {
    t.equal(tokens.readRefresh(wrong), undefined, JSON.stringify(wrong))
  }
})

/** Of a session that begins now. */
const access = (changes: Record<string, unknown> = {}) => {
  const { token } = tokens.pair(aSession({ rotatedAt: new Date() }))
  return `${JSON.stringify({ ...claimsOf(token), ...changes })}A`
}

t.test('an access token tells whom it speaks for, and until when', async (t) => {
  const session = aSession({ rotatedAt: new Date() })
  const { token } = tokens.pair(session)
  t.same(tokens.readAccess(token), {
    userId: session.userId,
    sessionId: session.id,
    expiresAt: new Date(claimsOf(token).exp * 1000),
  })
})

t.test('an access token of other claims is none', async (t) => {
  const id = newId()
  const wrong: [name: string, values: unknown[]][] = [
    ['typ', ['refresh', '', undefined]],
    ...['sub', 'sid'].map((name): [string, unknown[]] => [
      name,
      [undefined, 7, '', `${id}0`, `x${id}`, `${id}\n`, id.slice(1), `${id.slice(1)}G`, [id]],
    ]),
    ['jti', [undefined, 7, null]],
    ...['iat', 'exp'].map((name): [string, unknown[]] => [
      name,
      [undefined, null, '1', 1.5, -1, 8.64e12, 1e300],
    ]),
  ]
  for (const [name, values] of wrong) {
    for (const value of values) {
      const refused = { code: 'UNAUTHORIZED' }
      t.throws(() => tokens.readAccess(access({ [name]: value })), refused, `${name} ${value}`)
    }
  }
  for (const claims of ['null', '7', '"text"', 'true', '[]']) {
    t.throws(() => tokens.readAccess(`${claims}A`), { code: 'UNAUTHORIZED' }, claims)
  }
})

t.test('the bounds of a time are a Date’s', async (t) => {
  const { expiresAt } = tokens.readAccess(access({ iat: 0, exp: 8.64e12 - 1 }))
  t.equal(expiresAt.getTime(), 8.64e15 - 1000)
})

/** Counts how often it is asked to verify. */
function counting(verify: (token: string) => unknown = asJson.verify) {
  let calls = 0
  const counted = createTokens(secret, lifeSeconds, {
    sign: asJson.sign,
    verify: (token) => {
      calls++
      return verify(token)
    },
  })
  return { ...counted, calls: () => calls }
}

t.test('a token that was verified is not verified again', async (t) => {
  const { readAccess, calls } = counting()
  const token = access()
  t.equal(readAccess(token), readAccess(token))
  t.equal(calls(), 1)
})

t.test('a token that was verified is verified again once it is late', async (t) => {
  const { readAccess, calls } = counting()
  const token = access({ exp: Math.floor(Date.now() / 1000) - 1 })
  readAccess(token)
  readAccess(token)
  t.equal(calls(), 2)
})

t.test('a token that names when it begins is verified each time', async (t) => {
  const { readAccess, calls } = counting()
  const token = access({ nbf: 1 })
  readAccess(token)
  readAccess(token)
  t.equal(calls(), 2)
})

t.test('a token that cannot be one is not verified at all', async (t) => {
  const { readAccess, calls } = counting()
  const long = access({ pad: 'x'.repeat(2048) })
  for (const token of [long, access().slice(0, -1), `${access()}B`, `${access()}A\n`, '']) {
    t.throws(() => readAccess(token), { code: 'UNAUTHORIZED' })
  }
  t.equal(calls(), 0)
})

t.test('a token of 2048 characters is verified, one of 2049 is not', async (t) => {
  const { readAccess, calls } = counting()
  const short = access({ pad: '' })
  const ofLength = (length: number) =>
    `${short.slice(0, -1).replace('"pad":""', `"pad":"${'x'.repeat(length - short.length)}"`)}A`
  t.equal(ofLength(2048).length, 2048)
  readAccess(ofLength(2048))
  t.equal(calls(), 1)
  t.throws(() => readAccess(ofLength(2049)), { code: 'UNAUTHORIZED' })
  t.equal(calls(), 1)
})

t.test('what the verifier throws is UNAUTHORIZED, or TOKEN_EXPIRED for a late one', async (t) => {
  const failing = (error: unknown) =>
    counting(() => {
      throw error
    })
  const coded = (code: string) => Object.assign(new Error('no'), { code })
  for (const [error, code] of [
    [coded('FAST_JWT_EXPIRED'), 'TOKEN_EXPIRED'],
    [coded('FAST_JWT_INVALID_SIGNATURE'), 'UNAUTHORIZED'],
    [new Error('no'), 'UNAUTHORIZED'],
    [{ code: 'FAST_JWT_EXPIRED' }, 'UNAUTHORIZED'],
    ['text', 'UNAUTHORIZED'],
  ] as const) {
    t.throws(() => failing(error).readAccess(access()), { code, cause: error })
  }
})
