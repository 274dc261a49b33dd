import { execFile, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Turn } from '../../schemas/messages.js'
import { startConversation } from '../services/conversation.js'

const root = join(import.meta.dirname, '../../..')
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const run = promisify(execFile)

const promtool =
  process.env.TEST_PROMTOOL ?? (spawnSync('promtool', ['--version']).error ? undefined : 'promtool')
const skip = promtool === undefined && 'TEST_PROMTOOL is not set, and no promtool is on PATH'

/** What Prometheus itself adds to every series. */
const addedLabels = new Set(['instance', 'job', 'le'])

interface Panel {
  type: string
  title: string
  targets?: { expr: string }[]
}

const dashboard: { panels: Panel[]; templating: { list: { definition?: string }[] } } = JSON.parse(
  read('deploy/grafana-dashboard.json'),
)
const dashboardExpressions = [
  ...dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
  ...dashboard.templating.list.flatMap(({ definition }) => definition ?? []),
]
const ruleExpressions = Array.from(
  read('deploy/prometheus-rules.yml').matchAll(/expr: (?:\|\n((?: {10,}.*\n)+)|(.+))/g),
  ([, block, line]) => block ?? line ?? '',
)

/** The metrics that an expression reads. */
const metricsIn = (expression: string) =>
  expression.match(/\b(?:chat|http|store|cache|nodejs|process)_[a-z0-9_]+\b/g) ?? []

/** The labels that an expression selects or groups by. */
function labelsIn(expression: string): string[] {
  const selected = Array.from(expression.matchAll(/([a-z_]+)=~?"/g), ([, label]) => label ?? '')
  const grouped = Array.from(expression.matchAll(/\bby \(([a-z_, ]+)\)/g), ([, list]) => list ?? '')
  return [...selected, ...grouped.flatMap((list) => list.split(/, */))]
}

t.test(
  'every metric and label of the alerts and the dashboard is one that the server gives',
  async (t) => {
    const { url, newChat, send } = await startConversation(t)
    await send<Turn>(await newChat(), { content: 'len=30' })
    const text = await (await fetch(`${url}/metrics`)).text()
    const given = new Set(Array.from(text.matchAll(/^# TYPE (\S+)/gm), ([, name]) => name ?? ''))
    t.ok(ruleExpressions.length >= 10 && dashboardExpressions.length >= 20)
    for (const expression of [...ruleExpressions, ...dashboardExpressions]) {
      const metrics = metricsIn(expression)
      if (!expression.startsWith('up{')) t.ok(metrics.length > 0, expression)
      for (const name of metrics) {
        const isGiven = given.has(name) || given.has(name.replace(/_(?:bucket|count|sum)$/, ''))
        t.ok(isGiven, `${name} of ${expression}`)
      }
      for (const label of labelsIn(expression).filter((label) => !addedLabels.has(label))) {
        t.match(text, `${label}="`, `${label} of ${expression}`)
      }
    }
  },
)

t.test('docs/production.md says what each alert means', async (t) => {
  const alerts = Array.from(
    read('deploy/prometheus-rules.yml').matchAll(/alert: (\w+)/g),
    ([, name]) => name ?? '',
  )
  const production = read('docs/production.md')
  for (const alert of alerts) t.match(production, `\`${alert}\``)
})

t.test('docs/production.md quotes log lines that the program writes', async (t) => {
  const [, table = ''] =
    /^\| look for \|.*\n\|---.*\n((?:\|.*\n)+)/m.exec(read('docs/production.md')) ?? []
  const lines = table.split('\n').flatMap((row) => row.split('|')[1]?.match(/`[^`]+`/g) ?? [])
  t.ok(lines.length >= 10)
  const sources = ['src', 'plugins']
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.ts'))
        .map((name) => read(join(folder, name))),
    )
    .join('')
  for (const line of lines) t.ok(sources.includes(line.slice(1, -1)), line)
})

t.test('promtool accepts the rules, and they alert when they should', { skip }, async (t) => {
  const tool = promtool ?? ''
  const rules = join(root, 'deploy/prometheus-rules.yml')
  t.match((await run(tool, ['check', 'rules', rules])).stdout, /SUCCESS: 13 rules/)
  const tests = join(root, 'test/deploy/prometheus-rules.yml')
  t.match((await run(tool, ['test', 'rules', tests])).stdout, /SUCCESS/)
})

t.test('promtool finds no fault with the names that are this program’s', { skip }, async (t) => {
  const { url } = await startConversation(t)
  const text = await (await fetch(`${url}/metrics`)).text()
  const { stdout, stderr } = spawnSync(promtool ?? '', ['check', 'metrics'], {
    input: text,
    encoding: 'utf8',
  })
  // prom-client's own, which are older than the conventions.
  const faults = `${stdout}${stderr}`.split('\n').filter((line) => line && !/^nodejs_/.test(line))
  t.strictSame(faults, [])
})
