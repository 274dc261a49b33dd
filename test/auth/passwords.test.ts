import bcrypt from 'bcrypt'
import t from 'tap'
import { createPasswords } from '../../src/auth/passwords.js'
import { AppError } from '../../src/errors.js'

/** A client's network. */
const home = '192.0.2.1'

t.test('a password is verified by its own hash alone', async (t) => {
  const passwords = await createPasswords(4)
  const hash = await passwords.hash('correct horse', home)
  t.equal(await passwords.verify('correct horse', hash, home), true)
  t.equal(await passwords.verify('correct horsf', hash, home), false)
  t.equal(await passwords.verify('correct horse', undefined, home), false)
})

t.test('a password is the same in every Unicode form, and with any space', async (t) => {
  const passwords = await createPasswords(4)
  const composed = 'na\u00efve \u{1F40E} caf\u00e9'
  const hash = await passwords.hash(await passwords.prepare(composed, 'ada'), home)
  for (const written of [composed, composed.normalize('NFD'), composed.replace(' ', '\u00a0')]) {
    t.equal(await passwords.verify(written, hash, home), true, encodeURIComponent(written))
  }
  const other = composed.normalize('NFD').replace(' ', '\u3000')
  t.equal(await passwords.prepare(other, 'ada'), composed)
  for (const other of ['NA\u00cfVE \u{1F40E} CAF\u00c9', 'naive \u{1F40E} cafe', `${composed} `]) {
    t.equal(await passwords.verify(other, hash, home), false, other)
  }
})

t.test(
  'a password with a control character is refused when new, and wrong otherwise',
  async (t) => {
    const passwords = await createPasswords(4)
    for (const bad of [
      'correct\thorse',
      'correct horse\n',
      'correct\u0085horse',
      'correct\u0000horse',
    ]) {
      await t.rejects(passwords.prepare(bad, 'ada'), { code: 'VALIDATION_FAILED' })
      const hash = await passwords.hash(bad, home)
      t.equal(await passwords.verify(bad, hash, home), false)
    }
    t.equal(await passwords.verify('', undefined, home), false)
    const fourLetters = passwords.prepare('e\u0301'.repeat(4), 'ada')
    await t.rejects(fourLetters, { code: 'VALIDATION_FAILED' })
  },
)

t.test('a password over 72 bytes of UTF-8 is refused, for bcrypt reads no further', async (t) => {
  const passwords = await createPasswords(4)
  const longest = 'éèàü'.repeat(9)
  t.equal(await passwords.prepare(longest, 'ada'), longest)
  for (const tooLong of [`${longest}!`, '😀'.repeat(19)]) {
    await t.rejects(passwords.prepare(tooLong, 'ada'), { code: 'PASSWORD_TOO_LONG' })
  }
  const hash = await passwords.hash(longest, home)
  t.equal(await passwords.verify(longest, hash, home), true)
  t.equal(await passwords.verify(`${longest}!`, hash, home), false, 'the same first 72 bytes')
})

t.test('a new password that is easily guessed is refused', async (t) => {
  const passwords = await createPasswords(4)
  const weak = [
    ...['password', 'Password1', 'QWERTY123', '12345678', 'iloveyou', 'sunshine', 'trustno1'],
    ...['aaaaaaaa', '00000000', 'abcdefgh', '87654321', '123123123', '12121212'],
    ...['ada-lovelace', 'Ada-Lovelace', 'I am ADA-LOVELACE', 'ada-lovelace1815'],
  ]
  for (const password of weak) {
    const refused = { code: 'PASSWORD_TOO_WEAK', statusCode: 400 }
    await t.rejects(passwords.prepare(password, 'Ada-Lovelace'), refused, password)
  }
  for (const password of ['correct horse', 'correct horse battery staple', 'analytical engine']) {
    t.equal(await passwords.prepare(password, 'Ada-Lovelace'), password)
  }
  const hash = await passwords.hash('password', home)
  t.equal(await passwords.verify('password', hash, home), true, 'but one of before is let in')
})

t.test('for an unknown account a hash of the same cost is compared', async (t) => {
  const passwords = await createPasswords(5)
  const hash = await passwords.hash('correct horse', home)
  const compared = t.capture(bcrypt, 'compare', bcrypt.compare)
  for (const known of [hash, undefined]) {
    t.equal(await passwords.verify('wrong horse', known, home), false)
    const [{ args: [password, against = ''] = [] } = {}, ...more] = compared()
    t.equal(password, 'wrong horse')
    t.equal(bcrypt.getRounds(against), 5)
    t.same(more, [], 'once')
  }
})

t.test('two hashes run at once, which leaves threads to the file system', async (t) => {
  const passwords = await createPasswords(4)
  const { hash } = bcrypt
  let running = 0
  let most = 0
  t.capture(bcrypt, 'hash', async (password: string, cost: number) => {
    most = Math.max(most, ++running)
    const hashed = await hash(password, cost)
    running--
    return hashed
  })
  await Promise.all(Array.from({ length: 16 }, () => passwords.hash('correct horse', home)))
  t.equal(most, 2)
})

t.test('200 may wait, and the line ends', async (t) => {
  const passwords = await createPasswords(4)
  const results = await Promise.allSettled(
    Array.from({ length: 400 }, () => passwords.hash('correct horse', home)),
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
  t.type(await passwords.hash('correct horse', home), 'string', 'room again')
})

t.test('a network with many attempts delays another by one of them', async (t) => {
  const passwords = await createPasswords(4)
  const { compare } = bcrypt
  const started: string[] = []
  t.capture(bcrypt, 'compare', (password: string, hash: string) => {
    started.push(password)
    return compare(password, hash)
  })
  const attempt = (password: string, network: string) =>
    passwords.verify(password, undefined, network)
  const many = Array.from({ length: 250 }, (_, n) =>
    attempt('many', `2001:db8:1:${n.toString(16)}::/64`),
  )
  await attempt('other', home)
  t.equal(started.indexOf('other'), 3, 'two ran, and one was next')
  await Promise.all(many)
})

t.test('when all places are taken, the network with the most gives one up', async (t) => {
  const passwords = await createPasswords(4)
  const attempt = (network: string) => passwords.verify('wrong horse', undefined, network)
  const many = Array.from({ length: 270 }, () => attempt('198.51.100.1'))
  const others = Array.from({ length: 20 }, (_, n) => attempt(`203.0.113.${n}`))
  const settled = Promise.allSettled(many)
  t.strictSame(await Promise.all(others), Array(20).fill(false))
  const refused = (await settled).filter(({ status }) => status === 'rejected')
  t.equal(refused.length, 270 - 252 + 20)
  for (const result of refused) t.match(result, { reason: { code: 'TOO_BUSY', retryAfter: 5 } })
})
