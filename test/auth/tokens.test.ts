import { createHmac } from 'node:crypto'
import t from 'tap'
import type { ApiError } from '../../schemas/common.js'
import { api, register, startApp } from '../services/app.js'
import { eventually } from '../services/eventually.js'

const jwtSecret = 'a secret of the tests, of 32 bytes and more'

type Part = Record<string, unknown> | unknown[] | null | string

const encode = (part: Part) =>
  Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url')

function sign(header: Part, payload: Part, secret = jwtSecret, hash = 'sha256'): string {
  const input = `${encode(header)}.${encode(payload)}`
  return `${input}.${createHmac(hash, secret).update(input).digest('base64url')}`
}

/** Numbers that look random and are the same for the same seed (mulberry32). */
function randomFrom(seed: number) {
  let state = seed
  return (below: number) => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) % below
  }
}

t.test('access tokens', async (t) => {
  const { url } = await startApp(t, { JWT_SECRET: jwtSecret })
  const user = await register(url)
  const profile = (token: string) => api(url, token)<ApiError>('GET', '/api/auth/profile')
  const [head = '', body = ''] = user.token.split('.')
  const header = { alg: 'HS256', typ: 'JWT' }
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString())
  const { exp: _exp, ...withoutExp } = claims
  const now = Math.floor(Date.now() / 1000)

  t.test('bear every claim that is asked for, a numeric exp among them', async (t) => {
    t.match(claims, {
      iss: 'chat',
      aud: 'chat',
      typ: 'access',
      sub: user.user.id,
      sid: /^[0-9a-f]{24}$/,
      jti: /^[\w-]{43}$/,
    })
    t.equal(claims.exp - claims.iat, 3600)
    t.equal((await profile(sign(header, claims))).status, 200, 'the same, signed again')
  })

  t.test('are refused with 401 whatever is wrong with them', async (t) => {
    const bad: Record<string, string> = {
      'no exp': sign(header, withoutExp),
      'exp a string': sign(header, { ...claims, exp: String(claims.exp) }),
      'exp null': sign(header, { ...claims, exp: null }),
      'exp huge': sign(header, { ...claims, exp: 1e300 }),
      'exp an array': sign(header, { ...claims, exp: [claims.exp] }),
      'nbf in the future': sign(header, { ...claims, nbf: now + 3600 }),
      'nbf a string': sign(header, { ...claims, nbf: 'later' }),
      'unknown crit': sign({ ...header, crit: ['odd'], odd: 1 }, claims),
      'payload null': sign(header, null),
      'payload []': sign(header, []),
      'payload a number': sign(header, '1'),
      'payload no JSON': sign(header, '{'),
      'header null': sign(null, claims),
      'header []': sign([], claims),
      'trailing =': `${user.token}=`,
      'HS512 with the same secret': sign({ ...header, alg: 'HS512' }, claims, jwtSecret, 'sha512'),
      'HS384 with the same secret': sign({ ...header, alg: 'HS384' }, claims, jwtSecret, 'sha384'),
      'alg none': `${encode({ alg: 'none' })}.${body}.`,
      'no signature': `${head}.${body}.`,
      'another secret': sign(header, claims, 'another secret of 32 bytes and more'),
      'another issuer': sign(header, { ...claims, iss: 'other' }),
      'another audience': sign(header, { ...claims, aud: 'other' }),
      'another type': sign(header, { ...claims, typ: 'refresh' }),
      'another session': sign(header, { ...claims, sid: 'f'.repeat(24) }),
      'a session not its user’s': sign(header, { ...claims, sub: 'f'.repeat(24) }),
      'sub an object': sign(header, { ...claims, sub: { $ne: null } }),
      'a refresh token': user.refreshToken,
      'too long': sign(header, { ...claims, pad: 'x'.repeat(4000) }),
      empty: '.',
      'two dots': '..',
    }
    for (const claim of ['iss', 'aud', 'typ', 'sub', 'sid', 'jti', 'iat']) {
      const { [claim]: _left, ...rest } = claims
      bad[`no ${claim}`] = sign(header, rest)
    }
    for (const [name, token] of Object.entries(bad)) {
      const { status, body, headers } = await profile(token)
      t.equal(status, 401, name)
      t.equal(body.code, 'UNAUTHORIZED', name)
      t.equal(headers.get('www-authenticate'), 'Bearer', name)
    }
  })

  t.test('that have expired say so', async (t) => {
    const { status, body } = await profile(
      sign(header, { ...claims, iat: now - 20, exp: now - 10 }),
    )
    t.equal(status, 401)
    t.equal(body.code, 'TOKEN_EXPIRED')
  })

  t.test('that were let in before expire all the same', async (t) => {
    const exp = Math.ceil(Date.now() / 1000) + 1
    const token = sign(header, { ...claims, exp })
    for (let n = 0; n < 3; n++) t.equal((await profile(token)).status, 200)
    await eventually('it is refused', async () => (await profile(token)).status === 401)
    t.ok(Date.now() >= exp * 1000)
    t.match(await profile(token), { status: 401, body: { code: 'TOKEN_EXPIRED' } })
  })

  t.test(
    'that were refused before are refused again, and a right one beside them is not',
    async (t) => {
      const wrong = sign(header, claims, 'another secret of 32 bytes and more')
      const soon = sign(header, { ...claims, nbf: Math.ceil(Date.now() / 1000) + 1 })
      for (let n = 0; n < 3; n++) {
        t.equal((await profile(wrong)).status, 401)
        t.equal((await profile(user.token)).status, 200)
      }
      t.equal((await profile(soon)).status, 401)
      await eventually('it is let in once its time has come', async () => {
        return (await profile(soon)).status === 200
      })
    },
  )

  t.test('are wanted in the Authorization header, as Bearer', async (t) => {
    const call = api(url)
    const bad = [
      '',
      'Bearer',
      'Bearer ',
      user.token,
      `Basic ${user.token}`,
      `Bearer ${user.token} x`,
    ]
    t.equal((await call('GET', '/api/auth/profile')).status, 401)
    for (const authorization of bad) {
      const { status } = await call('GET', '/api/auth/profile', undefined, { authorization })
      t.equal(status, 401, authorization.slice(0, 12))
    }
    const { status } = await call('GET', '/api/auth/profile', undefined, {
      authorization: `bearer ${user.token}`,
    })
    t.equal(status, 200, 'the scheme in any case')
  })

  t.test('with any byte changed are refused with 401', async (t) => {
    const seed = Number(process.env.SEED ?? Date.now() % 1e9)
    t.comment(`SEED=${seed}`)
    const random = randomFrom(seed)
    const mutants = new Set<string>()
    // Of the last character's six bits two decode to nothing: each of its values is tried.
    for (const end of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_') {
      mutants.add(user.token.slice(0, -1) + end)
    }
    while (mutants.size < 2000) {
      const at = random(user.token.length)
      const byte = String.fromCharCode(random(2) ? 0x21 + random(0x5e) : 0x80 + random(0x80))
      const rest = user.token.slice(at + random(2))
      mutants.add(user.token.slice(0, at) + (random(4) ? byte : '') + rest)
    }
    mutants.delete(user.token)
    const wrong: string[] = []
    const queue = [...mutants]
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        for (let token = queue.pop(); token !== undefined; token = queue.pop()) {
          const { status } = await profile(token)
          if (status !== 401) wrong.push(`${status} ${token}`)
        }
      }),
    )
    t.strictSame(wrong, [])
    t.equal((await profile(user.token)).status, 200)
  })

  t.test('end with their session, however the text is changed', async (t) => {
    const { token, headers } = await register(url)
    t.equal((await api(url, token)('POST', '/api/auth/logout')).status, 204)
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const end = alphabet.indexOf(token.slice(-1))
    for (let bits = 0; bits < 4; bits++) {
      const twin = token.slice(0, -1) + alphabet[(end & ~3) | bits]
      t.equal((await profile(twin)).status, 401)
    }
    t.equal((await fetch(`${url}/api/auth/logout`, { method: 'POST', headers })).status, 401)
  })
})
