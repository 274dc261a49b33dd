import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Bench } from '../bench.js'
import { type Figure, row } from '../figure.js'
import { ask } from '../seed.js'
import { interleave } from '../token-run.js'

const restMs = 3000
const root = join(import.meta.dirname, '../../../..')

async function startAndRest(bench: Bench) {
  const startedAt = performance.now()
  const server = await bench.startOurs({ DATA_DIR: bench.newFolder() }, [])
  await ask(server, '/health/live')
  const seconds = (performance.now() - startedAt) / 1000
  await delay(bench.size(restMs, 50))
  const megabytes = server.memory() / 1e6
  await server.stop()
  return { seconds, megabytes }
}

interface Lock {
  packages: Record<string, { dev?: boolean; devOptional?: boolean }>
}

/** What the packages take that the product is installed with, in megabytes. */
function installedMegabytes(): number {
  const lock: Lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  const folders = Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && !dev)
    .map(([path]) => path)
  return folders.reduce((sum, path) => sum + bytesOf(join(root, path)), 0) / 1e6
}

/** Of a folder without the packages within it, which the lock lists too; 0 when it is not there. */
function bytesOf(folder: string): number {
  const found = statSync(folder, { throwIfNoEntry: false })
  if (!found?.isDirectory()) return found?.size ?? 0
  return readdirSync(folder)
    .filter((name) => name !== 'node_modules')
    .reduce((sum, name) => sum + bytesOf(join(folder, name)), 0)
}

export const startFigures: Figure[] = [
  {
    name: 'start',
    async measure(bench) {
      const { ours } = await interleave(bench, 'start', ['ours'], () => startAndRest(bench))
      return [
        row({
          name: 'start to first answer',
          unit: 's',
          ours: ours.map(({ seconds }) => seconds),
          goal: { of: 'ours', atMost: 2 },
        }),
        row({
          name: 'memory at rest',
          unit: 'MB',
          ours: ours.map(({ megabytes }) => megabytes),
          goal: { of: 'ours', atMost: 160 },
        }),
        row({
          name: 'packages installed',
          unit: 'MB',
          ours: [installedMegabytes()],
          goal: { of: 'ours', atMost: 150 },
        }),
      ]
    },
  },
]
