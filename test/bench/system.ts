import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'

/** What the operating system counts. It is read from /proc, which only Linux has. */

let ticksPerSecond = 100

/** @throws Error on a system without /proc. */
export function assertMeasurable(): void {
  try {
    ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
    cpuSeconds(process.pid)
  } catch {
    throw new Error('CPU is counted by /proc, which only Linux has: this system has none.')
  }
}

/** What a process's threads have used of all cores so far, in the kernel too. */
export function cpuSeconds(pid: number): number {
  const tasks = `/proc/${pid}/task`
  const nanoseconds = readdirSync(tasks).map((task) =>
    Number(readFileSync(`${tasks}/${task}/schedstat`, 'latin1').split(' ', 1)),
  )
  return nanoseconds.reduce((sum, own) => sum + own, 0) / 1e9
}

/** What a process holds of memory. */
export function residentBytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
  return Number(kilobytes) * 1024
}

/** What all processes of the machine have used of all cores. */
export function machineCpuSeconds(): number {
  const [, user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'latin1')
    .split('\n', 1)
    .join()
    .split(/\s+/)
    .map(Number)
  const ticks = [user, nice, system, irq, softirq].reduce<number>((sum, n) => sum + (n ?? 0), 0)
  return ticks / ticksPerSecond
}

export interface Machine {
  cpu: string
  cores: number
  memoryGb: number
  kernel: string
  node: string
}

export function describeMachine(): Machine {
  const all = cpus()
  return {
    cpu: all[0]?.model.trim() ?? 'unknown',
    cores: all.length,
    memoryGb: Math.round(totalmem() / 1024 ** 3),
    kernel: release(),
    node: process.version,
  }
}
