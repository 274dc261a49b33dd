import { rmSync } from 'node:fs'

/*
 * Outlives the benchmark when it is killed, to end what it started and remove what it wrote.
 */
const pids = new Set<number>()
const folders = new Set<string>()

process.on('message', ({ pid, over, folder }: { pid?: number; over?: number; folder?: string }) => {
  if (pid !== undefined) pids.add(pid)
  if (over !== undefined) pids.delete(over)
  if (folder !== undefined) folders.add(folder)
})

process.once('disconnect', () => {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended already.
    }
  }
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
  process.exit()
})

// An interrupt from the terminal reaches this process too; it ends after the benchmark.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
