import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A short period, so that a token waits for the next share of time a few milliseconds at most. */
const periodUs = 10_000

/** A control group of Linux that bounds how much of a core a process has. */
export class Quota {
  readonly folder: string
  readonly #isFirstVersion = existsSync('/sys/fs/cgroup/cpu/cpu.cfs_period_us')

  /** @throws Error when this system lets nobody make one. */
  constructor(name: string) {
    this.folder = join(this.#isFirstVersion ? '/sys/fs/cgroup/cpu' : '/sys/fs/cgroup', name)
    mkdirSync(this.folder)
    try {
      this.lift()
    } catch (error) {
      this.remove()
      throw error
    }
  }

  /** Puts a process under it. */
  add(pid: number): void {
    this.#write('cgroup.procs', pid)
  }

  /** @param share of a core. */
  limit(share: number): void {
    this.#set(Math.round(periodUs * share))
  }

  lift(): void {
    this.#set(undefined)
  }

  /** Once its processes have ended. */
  remove(): void {
    rmdirSync(this.folder)
  }

  #set(us: number | undefined): void {
    if (this.#isFirstVersion) {
      this.#write('cpu.cfs_period_us', periodUs)
      this.#write('cpu.cfs_quota_us', us ?? -1)
    } else this.#write('cpu.max', `${us ?? 'max'} ${periodUs}`)
  }

  #write(file: string, value: string | number): void {
    writeFileSync(join(this.folder, file), String(value))
  }
}
