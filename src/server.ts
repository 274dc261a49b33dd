import { existsSync, readFileSync } from 'node:fs'
import closeWithGrace from 'close-with-grace'
import { createApp } from './app.js'
import { type Config, misnamedSettings, parseConfig } from './config.js'
import { parseEnvFile } from './env-file.js'
import { endLog, loggerOptions, logOutput } from './logging.js'

/** Ends the process with one line that says what to do. */
function refuse(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}

/**
 * Signals that begin one stop however often they come: a terminal sends them to the whole process
 * group, and npm passes on to the server what it hears itself.
 */
const stopSignals = ['SIGINT', 'SIGTERM'] as const

/** The part of the grace after which the log names what is still open. */
const lateCloseAt = 0.8

/** Names what keeps the server from ending, before the end of the grace kills it. */
function logOpen(app: ReturnType<typeof createApp>): void {
  const { log, connections, config } = app
  // None yet where the server is told to end while it starts.
  const replies = app.hasDecorator('generations') ? app.generations.counts : undefined
  const resources: Record<string, number> = {}
  for (const name of process.getActiveResourcesInfo()) {
    resources[name] = (resources[name] ?? 0) + 1
  }
  log.warn(
    { connections: connections.size, replies, resources },
    `still going down; killed ${config.SHUTDOWN_GRACE_MS} ms after the signal: raise ` +
      'SHUTDOWN_GRACE_MS if a service that is slow or away is the cause',
  )
}

async function start(): Promise<void> {
  const file = existsSync('.env') ? parseEnvFile(readFileSync('.env')) : {}
  // What the environment says already is not replaced.
  Object.assign(process.env, { ...file, ...process.env })
  const config = parseConfig(process.env)
  const output = logOutput()
  const app = createApp(config, { logger: { ...loggerOptions(config), stream: output } })
  for (const { name, setting } of misnamedSettings(process.env, Object.keys(file))) {
    app.log.warn({ name, setting }, `${name} is not read: the name of the setting is ${setting}`)
  }
  const grace = { delay: config.SHUTDOWN_GRACE_MS, skip: [...stopSignals] }
  const { close } = closeWithGrace(grace, async ({ signal, err }) => {
    if (err) app.log.fatal({ err }, 'fatal: uncaught error, shutting down')
    else if (signal) app.log.info({ signal }, 'going down')
    setTimeout(() => logOpen(app), config.SHUTDOWN_GRACE_MS * lateCloseAt).unref()
    await app.close()
    await endLog(output)
  })
  let stopping = false
  const stop = (cause: object) => {
    if (stopping) return
    stopping = true
    app.log.info(cause, 'going down')
    close()
  }
  for (const signal of stopSignals) process.on(signal, () => stop({ signal }))
  // `node --watch` that is told to end while it restarts the server leaves the new one behind.
  const stopWithParent = () => stop({ reason: 'the process that started this one has ended' })
  process.on('disconnect', stopWithParent)
  if (process.connected === false) stopWithParent()
  // A write past a quota is an error of that write; unheard, this signal would end the process.
  process.on('SIGXFSZ', () => app.log.warn('a file may not grow further: its size is limited'))
  const giveUp = setTimeout(() => {
    refuse(
      new Error(
        `The services did not answer within START_TIMEOUT_MS (${config.START_TIMEOUT_MS}).`,
      ),
    )
  }, config.START_TIMEOUT_MS)
  await app.ready()
  await app.listen({ port: config.PORT, host: config.HOST }).catch((error: unknown) => {
    throw listenProblem(error, config)
  })
  clearTimeout(giveUp)
}

/** The error that says which setting to change when the server cannot listen. */
function listenProblem(error: unknown, { PORT, HOST }: Config): unknown {
  const problems: Readonly<Record<string, string>> = {
    EADDRINUSE: `PORT ${PORT} is taken: end the program that listens there, or set another PORT.`,
    EACCES: `PORT ${PORT} needs more rights than this process has: set PORT to 1024 or more.`,
    EADDRNOTAVAIL: `HOST ${HOST} is no address of this machine: set HOST to one, or to 0.0.0.0.`,
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const problem = problems[code]
  return problem === undefined ? error : new Error(problem, { cause: error })
}

start().catch(refuse)
