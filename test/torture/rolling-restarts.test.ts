import { randomBytes } from 'node:crypto'
import t from 'tap'
import { outsideServices } from '../services/app.js'
import { rollingRestarts } from './rolling-restarts.js'
import { figuresLine, Trial } from './trial.js'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
t.comment(`SEED=${seed}`)
const { MONGODB_URI, REDIS_URL } = process.env

if (!MONGODB_URI || !REDIS_URL) {
  t.test('restarts', { skip: 'MONGODB_URI or REDIS_URL is not set' }, async () => {})
} else {
  t.test('three servers are restarted in turn under load, and nothing is wrong', async (t) => {
    const shared = outsideServices(`restarts-${randomBytes(6).toString('hex')}`)
    const figures = await Trial.run(rollingRestarts, 6, seed, shared)
    t.comment(figuresLine(figures))
    t.match(figures, { restarts: 6, complete: Number })
  })
}
