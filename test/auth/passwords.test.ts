import { stat } from 'node:fs/promises'
import t from 'tap'
import { createPasswords } from '../../src/auth/passwords.js'
import { AppError } from '../../src/errors.js'

t.test('a password is verified by its own hash alone', async (t) => {
  const passwords = await createPasswords(4)
  const hash = await passwords.hash('correct horse')
  t.equal(await passwords.verify('correct horse', hash), true)
  t.equal(await passwords.verify('correct horsf', hash), false)
  t.equal(await passwords.verify('correct horse', undefined), false)
})

t.test('a password over 72 bytes of UTF-8 is refused, for bcrypt reads no further', async (t) => {
  const passwords = await createPasswords(4)
  const longest = 'é'.repeat(36)
  passwords.assertUsable(longest)
  t.throws(() => passwords.assertUsable(`${longest}!`), { code: 'PASSWORD_TOO_LONG' })
  t.throws(() => passwords.assertUsable('😀'.repeat(19)), { code: 'PASSWORD_TOO_LONG' })
  const hash = await passwords.hash(longest)
  t.equal(await passwords.verify(longest, hash), true)
  t.equal(await passwords.verify(`${longest}!`, hash), false, 'the same first 72 bytes')
})

t.test('an unknown account takes as long as a wrong password', async (t) => {
  const passwords = await createPasswords(10)
  const hash = await passwords.hash('correct horse')
  const time = async (known: string | undefined) => {
    const times: number[] = []
    for (let i = 0; i < 5; i++) {
      const began = performance.now()
      await passwords.verify('wrong horse', known)
      times.push(performance.now() - began)
    }
    return Math.min(...times)
  }
  const known = await time(hash)
  const unknown = await time(undefined)
  t.ok(
    unknown > known / 2 && unknown < known * 2,
    `${known.toFixed(1)} and ${unknown.toFixed(1)} ms`,
  )
})

t.test('many hashes leave threads to the file system', async (t) => {
  const passwords = await createPasswords(9)
  let hashed = 0
  const hashes = Array.from({ length: 16 }, async () => {
    await passwords.hash('correct horse')
    hashed++
  })
  await stat('.')
  t.ok(hashed <= 2, `${hashed} hashes were done before`)
  await Promise.all(hashes)
})

t.test('200 may wait, and the line ends', async (t) => {
  const passwords = await createPasswords(4)
  const results = await Promise.allSettled(
    Array.from({ length: 400 }, () => passwords.hash('correct horse')),
  )
  const hashed = results.filter(({ status }) => status === 'fulfilled').length
  t.ok(hashed >= 202 && hashed < 400, `${hashed} hashed`)
  for (const result of results) {
    if (result.status === 'rejected') {
      t.ok(result.reason instanceof AppError)
      t.match(result.reason, { code: 'TOO_BUSY', statusCode: 503, retryAfter: 5 })
      break
    }
  }
  t.type(await passwords.hash('correct horse'), 'string', 'room again')
})
