import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { keyTable } from '../src/cache/keys.js'

const root = join(import.meta.dirname, '../..')
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const architecture = read('docs/architecture.md')

const units = { d: 86_400_000, h: 3_600_000, min: 60_000, s: 1000, ms: 1 }

/** Settings are set as code. */
const documentText = (text: string) => text.replaceAll(/\b[A-Z_]{4,}\b/g, '`$&`')

/** A life as the table writes it: in the largest unit that divides it. */
function lifeText(life: number | string): string {
  if (typeof life === 'string') return documentText(life)
  const [unit, ms] = Object.entries(units).find(([, ms]) => life % ms === 0) ?? ['ms', 1]
  return `${life / ms} ${unit}`
}

t.test('the table of the cache’s keys is the code’s', async (t) => {
  const documented = [...architecture.matchAll(/^\| `(chat:[^`]+)` \| ([^|]+) \| ([^|]+) \|$/gm)]
  t.same(
    documented.map(([, ...row]) => row),
    keyTable.map(({ pattern, life, invalidatedBy }) => [
      pattern,
      lifeText(life),
      documentText(invalidatedBy),
    ]),
  )
})

t.test('every folder of src/ is described', async (t) => {
  const folders = readdirSync(join(root, 'src'), { withFileTypes: true })
  for (const folder of folders.filter((entry) => entry.isDirectory())) {
    t.match(architecture, `\`${folder.name}/\``)
  }
})

t.test('links between the documents lead to files', async (t) => {
  for (const name of ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...docs()]) {
    for (const [, target = ''] of read(name).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      t.ok(existsSync(join(root, name, '..', target)), `${name}: ${target}`)
    }
  }
})

const docs = () =>
  readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name))
