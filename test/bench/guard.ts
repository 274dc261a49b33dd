import { existsSync, rmdirSync, rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/*
 * Outlives the benchmark when it is killed, to end what it started and remove what it wrote.
 */
const pids = new Set<number>()
const folders = new Set<string>()
const groups = new Set<string>()

interface Kept {
  pid?: number
  /** A process that has ended. */
  over?: number
  folder?: string
  /** A control group, which can be removed once its processes have ended. */
  group?: string
}

process.on('message', ({ pid, over, folder, group }: Kept) => {
  if (group !== undefined) groups.add(group)
  if (pid !== undefined) pids.add(pid)
  if (over !== undefined) pids.delete(over)
  if (folder !== undefined) folders.add(folder)
})

process.once('disconnect', async () => {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended already.
    }
  }
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
  for (const group of groups) {
    for (let tries = 0; existsSync(group) && tries < 20; tries++) {
      try {
        rmdirSync(group)
      } catch {
        await delay(50)
      }
    }
  }
  process.exit()
})

// An interrupt from the terminal reaches this process too; it ends after the benchmark.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
