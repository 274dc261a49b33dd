import closeWithGrace from 'close-with-grace'
import { createApp } from './app.js'
import { type Config, misnamedSettings, parseConfig } from './config.js'
import { withEnvFile } from './environment.js'
import { LogOutput } from './log-output.js'
import { loggerOptions } from './logging.js'

/** Prints one line that says what to do, after what was logged, and ends the process. */
async function refuse(error: unknown, output?: LogOutput): Promise<never> {
  await output?.end()
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}

/**
 * Signals that start one shutdown, however many arrive: a terminal signals the whole process group,
 * and npm forwards the same signal again.
 */
const stopSignals = ['SIGINT', 'SIGTERM'] as const

/** The part of SHUTDOWN_GRACE_MS after which the log names what is still open. */
const lateCloseAt = 0.8

/** Logs what keeps the server from ending, shortly before it is killed. */
function logOpen(app: ReturnType<typeof createApp>): void {
  const { log, connections, config } = app
  // The decorator is missing when the signal arrives during the start.
  const replies = app.hasDecorator('generations') ? app.generations.counts : undefined
  const resources: Record<string, number> = {}
  for (const name of process.getActiveResourcesInfo()) {
    resources[name] = (resources[name] ?? 0) + 1
  }
  log.warn(
    { connections: connections.size, replies, resources },
    `still shutting down; the process is killed ${config.SHUTDOWN_GRACE_MS} ms after the signal: ` +
      'raise SHUTDOWN_GRACE_MS if a service is slow or unreachable',
  )
}

async function start(): Promise<void> {
  const { environment, inFile } = withEnvFile(process.env)
  // Libraries read variables of their own, such as DEBUG.
  Object.assign(process.env, environment)
  const config = parseConfig(environment)
  const output = new LogOutput()
  const app = createApp(config, { logger: { ...loggerOptions(config), stream: output } })
  for (const { name, setting } of misnamedSettings(environment, inFile)) {
    app.log.warn({ name, setting }, `${name} is not read: the name of the setting is ${setting}`)
  }
  const grace = { delay: config.SHUTDOWN_GRACE_MS, skip: [...stopSignals] }
  const { close } = closeWithGrace(grace, async ({ signal, err }) => {
    if (err) app.log.fatal({ err }, 'fatal: uncaught error, shutting down')
    else if (signal) app.log.info({ signal }, 'shutting down')
    setTimeout(() => logOpen(app), config.SHUTDOWN_GRACE_MS * lateCloseAt).unref()
    await app.close()
    await output.end()
  })
  let stopping = false
  const stop = (cause: object) => {
    if (stopping) return
    stopping = true
    app.log.info(cause, 'shutting down')
    close()
  }
  for (const signal of stopSignals) process.on(signal, () => stop({ signal }))
  // A `node --watch` that ends while it restarts the server leaves the new process behind.
  const stopWithParent = () => stop({ reason: 'the process that started this one has ended' })
  process.on('disconnect', stopWithParent)
  if (process.connected === false) stopWithParent()
  // With a listener, a write past a file size limit fails; without one, the signal ends the process.
  process.on('SIGXFSZ', () =>
    app.log.warn('a file has reached its size limit (RLIMIT_FSIZE): raise the limit'),
  )
  const giveUp = setTimeout(() => {
    const problem = `The services did not answer within START_TIMEOUT_MS (${config.START_TIMEOUT_MS}).`
    void refuse(new Error(problem), output)
  }, config.START_TIMEOUT_MS)
  try {
    await app.ready()
    await app.listen({ port: config.PORT, host: config.HOST }).catch((error: unknown) => {
      throw listenProblem(error, config)
    })
  } catch (error) {
    return refuse(error, output)
  }
  clearTimeout(giveUp)
  // PM2 and other parents with a channel wait for it before they restart the next server.
  process.send?.('ready')
}

/** Replaces a listen error with one that says which setting to change. */
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
