import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { MongoClient } from 'mongodb'
import { startTcpProxy } from '../services/tcp-proxy.js'
import { freePort } from './processes.js'
import { between, pick, type Settings, type Trial } from './trial.js'

/** How long a service is away, and how long all is well between two faults, in milliseconds. */
const awayMs = { min: 20, max: 1500 }
const wellMs = { min: 50, max: 2500 }

/** What it is called, and that it comes and goes. */
type Fault = readonly [string, () => Promise<void>]

/** A Redis that dies with the trial, and at other times. */
class MortalRedis {
  #child: ChildProcess | undefined

  private constructor(private readonly port: number) {}

  static async start(trial: Trial): Promise<MortalRedis> {
    const redis = new MortalRedis(await freePort(trial))
    trial.teardown(() => redis.kill())
    await redis.start()
    return redis
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  /** Starts it, empty; resolves when it takes connections. */
  async start(): Promise<void> {
    const options = ['--bind', '127.0.0.1', '--port', `${this.port}`, '--save', '']
    const child = spawn('redis-server', options, { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(child, 'spawn')
    this.#child = child
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.includes('Ready to accept connections')) break
    }
    child.stdout.resume()
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (!child || child.signalCode !== null || child.exitCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(signal)
  }
}

/**
 * MongoDB behind a proxy, in a database of the trial's own, and a Redis of its own, which fail one
 * at a time at random moments for as long as anybody wants it.
 */
class ShakyServices {
  readonly settings: Settings

  private constructor(
    private readonly trial: Trial,
    private readonly mongo: Awaited<ReturnType<typeof startTcpProxy>>,
    private readonly redis: MortalRedis,
  ) {
    this.settings = { MONGODB_URI: mongo.url, REDIS_URL: redis.url }
  }

  /** @param mongoUri a server's, whose path, if any, is not used. */
  static async start(trial: Trial, mongoUri: string): Promise<ShakyServices> {
    const uri = ownDatabase(trial, mongoUri)
    return new ShakyServices(trial, await startTcpProxy(trial, uri), await MortalRedis.start(trial))
  }

  /** One fault after the other; resolves with all well. */
  async shake(goesOn: () => boolean): Promise<void> {
    const { trial, mongo, redis } = this
    const random = trial.fork()
    const away = () => trial.pause(between(random, awayMs.min, awayMs.max))
    const fail = (kind: Parameters<typeof mongo.fail>[0]) => async () => {
      mongo.fail(kind)
      await away()
      mongo.repair()
    }
    const faults: [Fault, ...Fault[]] = [
      ['MongoDB cut', fail('cut')],
      ['MongoDB silent', fail('silent')],
      ['MongoDB deaf', fail('deaf')],
      [
        'Redis killed',
        async () => {
          await redis.kill()
          await away()
          await redis.start()
        },
      ],
      [
        'Redis suspended',
        async () => {
          redis.signal('SIGSTOP')
          await away()
          redis.signal('SIGCONT')
        },
      ],
    ]
    while (goesOn()) {
      await trial.pause(between(random, wellMs.min, wellMs.max))
      const [name, fault] = pick(random, faults)
      trial.note('clients', `--- ${name}`)
      await fault()
      trial.note('clients', `--- ${name}: is back`)
      trial.count(name)
    }
  }
}

/** @returns the URI of a database that is dropped with the trial. */
function ownDatabase(trial: Trial, mongoUri: string): string {
  const name = `torture_${Date.now()}_${trial.serial()}`
  const uri = mongoUri.replace(/^([a-z+]+:\/\/[^/?]+)(?:\/[^?]*)?/, `$1/${name}`)
  trial.teardown(async () => {
    const client = await MongoClient.connect(uri)
    await client.db().dropDatabase()
    await client.close()
  })
  return uri
}

type Program = (trial: Trial, count: number, settings: Settings) => Promise<void>
/** What a program is run over, by the server's settings. */
type Services = Readonly<Record<'MONGODB_URI' | 'REDIS_URL', string>>

/** A program over services that do not fail, in a database of its own; its name stays. */
export function overOwnDatabase(program: Program, services: Services): Program {
  return named(program, async (trial, count) => {
    const MONGODB_URI = ownDatabase(trial, services.MONGODB_URI)
    await program(trial, count, { ...services, MONGODB_URI })
  })
}

/** A program during which MongoDB, and a Redis in the place of the given one, fail; its name stays. */
export function overShakyServices(program: Program, services: Services): Program {
  return named(program, async (trial, count) => {
    const shaky = await ShakyServices.start(trial, services.MONGODB_URI)
    trial.storeFails = true
    let running = true
    await Promise.all([
      program(trial, count, shaky.settings).finally(() => {
        running = false
      }),
      shaky.shake(() => running),
    ])
  })
}

const named = ({ name }: Program, program: Program): Program =>
  Object.defineProperty(program, 'name', { value: name })
