import t, { type Test } from 'tap'
import { createMemoryCache } from '../../src/cache/memory.js'
import { createModelCatalogue, type ModelCatalogue } from '../../src/ollama/catalogue.js'
import { createOllamaClient } from '../../src/ollama/client.js'
import { eventually } from '../services/eventually.js'
import {
  closingTemplate,
  type StandInModel,
  type StandInOptions,
  standInModel,
  startStandIn,
} from '../services/ollama-stand-in.js'

const model = (name: string, changes: Partial<StandInModel> = {}): StandInModel => ({
  ...standInModel,
  name,
  ...changes,
})

type Options = Partial<Parameters<typeof createModelCatalogue>[1]>

async function start(t: Test, options?: StandInOptions, overrides: Options = {}) {
  const standIn = await startStandIn(options)
  const client = createOllamaClient({
    url: standIn.url,
    connectTimeoutMs: 2_000,
    firstTokenTimeoutMs: 5_000,
    idleTimeoutMs: 5_000,
    loadTimeoutMs: 5_000,
  })
  t.teardown(async () => {
    await client.close()
    await standIn.close()
  })
  const settings = {
    cache: createMemoryCache(),
    url: standIn.url,
    defaultModel: undefined,
    ...overrides,
  }
  return {
    standIn,
    client,
    catalogue: createModelCatalogue(client, settings),
    /** Another server over the same cache. */
    other: () => createModelCatalogue(client, settings),
    count: (path: string) => standIn.callsOf(path).length,
  }
}

const namesOf = async (catalogue: ModelCatalogue) =>
  (await catalogue.list()).map(({ name }) => name)

t.test('the list is of the API’s shape, with capabilities', async (t) => {
  const { catalogue } = await start(t)
  t.strictSame(await catalogue.list(), [
    {
      name: 'stand-in:latest',
      size: 135_000_000,
      modifiedAt: '2026-01-02T02:04:05.678Z',
      details: {
        format: 'gguf',
        family: 'standin',
        families: ['standin'],
        parameter_size: '135M',
        quantization_level: 'Q4_1',
      },
      capabilities: ['completion', 'thinking'],
    },
  ])
})

t.test('who asks at once shares one request, and a fresh list asks nobody', async (t) => {
  const { catalogue, count } = await start(t)
  await Promise.all(Array.from({ length: 50 }, () => catalogue.list()))
  await Promise.all(Array.from({ length: 50 }, () => catalogue.find('stand-in')))
  t.equal(count('/api/tags'), 1)
  t.equal(count('/api/show'), 1)
  t.equal(count('/api/ps'), 1)
})

t.test(
  'of two servers one asks Ollama for the list and the models, and both know them',
  async (t) => {
    const { catalogue, other, count } = await start(t)
    const second = other()
    const [mine, theirs] = await Promise.all([catalogue.list(), second.list()])
    t.strictSame(theirs, mine)
    t.match(await second.find(), {
      name: 'stand-in:latest',
      capabilities: ['completion', 'thinking'],
    })
    t.equal(count('/api/tags'), 1)
    t.equal(count('/api/show'), 1)
  },
)

t.test('a server that starts while Ollama is away knows the list of another', async (t) => {
  const { standIn, catalogue, other } = await start(t, {}, { freshMs: 0 })
  await catalogue.list()
  await standIn.stop()
  const late = other()
  t.strictSame(await namesOf(late), ['stand-in:latest'])
  t.match(await late.findKnown('stand-in'), { template: /slice/ })
})

t.test('a model that another server found is known to this one', async (t) => {
  const { standIn, catalogue, other, count } = await start(t, {}, { freshMs: 60_000 })
  await catalogue.list()
  standIn.models.push(model('new:latest'))
  await eventually('the new model', () =>
    catalogue.find('new').then(
      () => true,
      () => false,
    ),
  )
  t.equal((await other().find('new')).name, 'new:latest')
  t.equal(count('/api/tags'), 2)
  t.equal(count('/api/show'), 2)
})

t.test('a stale list is served at once while one request renews it', async (t) => {
  const { standIn, catalogue, count } = await start(t, {}, { freshMs: 0 })
  await catalogue.list()
  standIn.models.push(model('new:latest'))
  t.strictSame(await Promise.all([namesOf(catalogue), namesOf(catalogue)]), [
    ['stand-in:latest'],
    ['stand-in:latest'],
  ])
  await eventually('the second request', () => count('/api/tags') >= 2)
  t.equal(count('/api/tags'), 2)
  await eventually('the new list', async () => (await namesOf(catalogue)).length === 2)
  t.equal(count('/api/show'), 2, 'each digest was shown once')
})

t.test('a stale list is served while Ollama is away, and none that is too old', async (t) => {
  const { standIn, catalogue } = await start(t, {}, { freshMs: 0, staleMs: 300 })
  await catalogue.find()
  await standIn.stop()
  t.strictSame(await namesOf(catalogue), ['stand-in:latest'])
  t.match(await catalogue.find(), { name: 'stand-in:latest', contextLength: 4096 })
  await eventually('its end', () =>
    catalogue.list().then(
      () => false,
      (error) => error.code === 'MODEL_UNREACHABLE',
    ),
  )
  await standIn.restart()
  t.strictSame(await namesOf(catalogue), ['stand-in:latest'])
})

t.test('nothing known and Ollama away is MODEL_UNREACHABLE, until it comes', async (t) => {
  const { standIn, catalogue } = await start(t)
  await standIn.stop()
  await t.rejects(catalogue.list(), { code: 'MODEL_UNREACHABLE' })
  await t.rejects(catalogue.find('stand-in'), { code: 'MODEL_UNREACHABLE' })
  await standIn.restart()
  t.equal((await catalogue.find('stand-in')).name, 'stand-in:latest')
})

t.test('names are found with and without their tag, and none is the default', async (t) => {
  const models = [model('first:1b'), model('second:latest'), model('plain')]
  const { catalogue } = await start(t, { models })
  const find = async (name?: string) => (await catalogue.find(name)).name
  t.equal(await find(), 'first:1b')
  t.equal(await find('second'), 'second:latest')
  t.equal(await find('second:latest'), 'second:latest')
  t.equal(await find('plain:latest'), 'plain')
  await t.rejects(find('first'), { code: 'MODEL_NOT_FOUND' })
  await t.rejects(find('firs'), { code: 'MODEL_NOT_FOUND' })
})

t.test('the default model is the one that was set, also when it is missing', async (t) => {
  const models = [model('first:latest'), model('second:latest')]
  const { standIn, catalogue } = await start(t, { models }, { defaultModel: 'second', momentMs: 0 })
  t.equal((await catalogue.find()).name, 'second:latest')
  standIn.models.pop()
  await eventually('the loss', async () => {
    await catalogue.find('nope').catch(() => {})
    return catalogue.find().then(
      () => false,
      (error) => error.code === 'MODEL_NOT_FOUND',
    )
  })
})

t.test('no model at all says what to do', async (t) => {
  const { catalogue } = await start(t, { models: [] })
  t.strictSame(await catalogue.list(), [])
  await t.rejects(catalogue.find(), { code: 'MODEL_NOT_FOUND', message: /ollama pull/ })
})

t.test('an unknown name asks once more, but not within a moment', async (t) => {
  const { standIn, catalogue, count } = await start(t, {}, { momentMs: 200 })
  await catalogue.list()
  await t.rejects(catalogue.find('new'), { code: 'MODEL_NOT_FOUND' })
  t.equal(count('/api/tags'), 1)
  standIn.models.push(model('new:latest'))
  await eventually('the new model', () =>
    catalogue.find('new').then(
      () => true,
      () => false,
    ),
  )
  t.equal(count('/api/tags'), 2)
})

t.test('what is found tells its windows, and whether it goes on', async (t) => {
  const models = [
    model('open:latest', { digest: 'd1', contextLength: 8192, loadedContextLength: 2048 }),
    model('closed:latest', { digest: 'd2', continues: false, loadedContextLength: undefined }),
  ]
  const { catalogue } = await start(t, { models })
  t.match(await catalogue.find('open'), {
    digest: 'd1',
    contextLength: 2048,
    trainedContextLength: 8192,
    template: /slice \$\.Messages/,
    capabilities: ['completion', 'thinking'],
    continues: true,
  })
  t.match(await catalogue.find('closed'), {
    digest: 'd2',
    contextLength: undefined,
    template: closingTemplate,
    continues: false,
  })
})

t.test('a model that can’t be shown is listed and found without what is not known', async (t) => {
  const { catalogue } = await start(t, {
    routes: { '/api/show': (_, response) => response.writeHead(500).end('{"error":"no"}') },
  })
  t.match(await catalogue.list(), [{ name: 'stand-in:latest', capabilities: undefined }])
  t.match(await catalogue.find(), {
    name: 'stand-in:latest',
    continues: false,
    capabilities: undefined,
  })
})

t.test('a show that hangs does not keep the list', async (t) => {
  const { catalogue } = await start(t, { routes: { '/api/show': () => {} } })
  t.strictSame(await namesOf(catalogue), ['stand-in:latest'])
})

t.test('many models are shown few at a time, once each', async (t) => {
  const models = Array.from({ length: 30 }, (_, i) => model(`m${i}:latest`))
  let now = 0
  let most = 0
  const { catalogue, count } = await start(
    t,
    {
      models,
      routes: {
        '/api/show': (_, response) => {
          now += 1
          most = Math.max(most, now)
          setImmediate(() => {
            now -= 1
            response.end('{"template":"","capabilities":["completion"]}')
          })
        },
      },
    },
    { freshMs: 0 },
  )
  const listed = await catalogue.list()
  t.ok(listed.every(({ capabilities }) => capabilities?.[0] === 'completion'))
  t.ok(most <= 4, `${most} at a time`)
  await catalogue.list()
  await eventually('the second list', () => count('/api/tags') === 2)
  t.equal(count('/api/show'), 30)
})
