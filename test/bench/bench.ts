import { join } from 'node:path'
import type { Emitter } from './emitter.js'
import type { Load } from './load/process.js'
import type { Options } from './options.js'
import type { Processes, Server } from './processes.js'
import type { Quota } from './quota.js'
import { remote } from './rpc.js'
import { copySeed, fill, type Seed } from './seed.js'
import { cpuSeconds, machineCpuSeconds } from './system.js'

/** `redis` is ours with REDIS_URL; `shared` and `other` are two servers of ours that are one system. */
export type SideName =
  | 'ours'
  | 'redis'
  | 'shared'
  | 'other'
  | 'usual'
  | 'bare'
  | 'pipe'
  | 'fastify'
  | 'socketio'

/** Signs the tokens of every side. */
const secret = 'the-benchmark-signs-with-this-secret-of-its-own'

const product = join(import.meta.dirname, '../../../dist/src/server.js')
const seededAccounts = 1000
/** As many as the measured requests need: each user has a limit. */
const seededReaders = 50

/** What a server used while something was done. */
export interface Used {
  cpuSeconds: number
  seconds: number
}

/** What figures measure with. */
export class Bench {
  readonly emitter: Emitter
  readonly load: Load
  readonly #helperPids: number[]
  readonly #servers = new Map<string, Server>()
  readonly #processes: Processes
  #ollama = ''
  #seed: Promise<Seed> | undefined
  #copies = 0
  #foreignCores: number[] = []

  constructor(
    processes: Processes,
    readonly options: Options,
    /** Says what is being done. */
    readonly progress: (text: string) => void,
  ) {
    this.#processes = processes
    const emitter = processes.fork('emitter.js')
    const load = processes.fork('load/process.js')
    this.emitter = remote(emitter, 'emitter')
    this.load = remote(load, 'load')
    this.#helperPids = [process.pid, emitter.pid ?? 0, load.pid ?? 0]
  }

  /** A size: the real one, or a moment's. */
  size(real: number, smoke: number): number {
    return this.options.smoke ? smoke : real
  }

  /** Accounts with chats, which every server that keeps something begins with. */
  seed(): Promise<Seed> {
    this.#seed ??= this.#fillSeed()
    return this.#seed
  }

  async #fillSeed(): Promise<Seed> {
    this.progress('filling the database')
    const folder = this.newFolder()
    // NODE_ENV=test hashes passwords cheaply.
    const server = await this.startOurs({ DATA_DIR: folder, NODE_ENV: 'test' }, [])
    return fill(server, folder, this.size(seededAccounts, 20), this.size(seededReaders, 2))
  }

  /** @throws Error when this system lets nobody bound a process. */
  quota(): Quota {
    return this.#processes.quota()
  }

  newFolder(): string {
    return join(this.#processes.folder, `data-${++this.#copies}`)
  }

  /**
   * The product's server with its limits of use as they are by default: the load is spread over users,
   * and over addresses, as a proxy names them. How much Ollama does at once is no limit of use.
   */
  async startOurs(settings: Record<string, string>, flags = this.#profiling()): Promise<Server> {
    const own = {
      JWT_EXPIRES_IN: '12h',
      OLLAMA_MAX_CONCURRENT: '10000',
      USER_MAX_CONCURRENT: '10000',
      TRUST_PROXY: '1',
    }
    return this.#processes.serve(
      'ours',
      product,
      { ...(await this.#common()), ...own, ...settings },
      flags,
    )
  }

  #profiling(): string[] {
    const { profile } = this.options
    return profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`]
  }

  async #common() {
    this.#ollama ||= `http://127.0.0.1:${await this.emitter.listen()}`
    return { OLLAMA_API_URL: this.#ollama, JWT_SECRET: secret }
  }

  /** A side's server, the same for all of a figure's rounds. */
  async server(name: SideName): Promise<Server> {
    const known = this.#servers.get(name)
    if (known) return known
    const isShared = name === 'shared' || name === 'other'
    const { REDIS_URL = '' } = process.env
    const settings = {
      ...(await this.#common()),
      DATA_DIR: copySeed(await this.seed(), this.newFolder()),
      ...((name === 'redis' || isShared) && { REDIS_URL }),
      ...(isShared && { MONGODB_URI: this.sharedDatabase() }),
    }
    const isOurs = name === 'ours' || name === 'redis' || isShared
    const program = join(import.meta.dirname, `sides/${name}.js`)
    const server = isOurs
      ? await this.startOurs(settings)
      : await this.#processes.serve(name, program, settings)
    this.#servers.set(name, server)
    return server
  }

  /** The database of the two servers that are one system, this benchmark's own. */
  sharedDatabase(): string {
    const url = new URL(process.env.MONGODB_URI ?? '')
    url.pathname = `/bench_${process.pid}`
    return url.href
  }

  /** Ends a side's server, so that the next is a new one. */
  async restart(name: SideName): Promise<Server> {
    const server = this.#servers.get(name)
    this.#servers.delete(name)
    await server?.stop()
    return this.server(name)
  }

  /** Ends the servers of a figure. */
  async stopServers(): Promise<void> {
    const servers = [...this.#servers.values()]
    this.#servers.clear()
    await Promise.all(servers.map((server) => server.stop()))
  }

  /** Does something, and counts what a server uses meanwhile. */
  async observe<T>(server: Server, work: () => Promise<T>): Promise<Used & { result: T }> {
    const own = () =>
      [...this.#helperPids, ...[...this.#servers.values(), server].map(({ pid }) => pid)]
        .filter((pid, index, all) => all.indexOf(pid) === index)
        .reduce((sum, pid) => sum + cpuSeconds(pid), 0)
    const startedAt = performance.now()
    const [machine, benchmark, cpu] = [machineCpuSeconds(), own(), server.cpu()]
    const result = await work()
    const seconds = (performance.now() - startedAt) / 1000
    const used = server.cpu() - cpu
    this.#foreignCores.push((machineCpuSeconds() - machine - (own() - benchmark)) / seconds)
    return { cpuSeconds: used, seconds, result }
  }

  /** How many cores others kept busy, at most, while something was observed since asked last. */
  takeForeignCores(): number {
    return Math.max(0, ...this.#foreignCores.splice(0))
  }
}
