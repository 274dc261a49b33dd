import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { Db } from 'mongodb'
import { type Config, parseConfig } from './config.js'
import { withEnvFile } from './environment.js'
import type { Counts } from './stores/backup.js'
import { databaseOf, describeUri } from './stores/mongo-uri.js'
import { backupSqlite, restoreSqlite } from './stores/sqlite/backup.js'

/* `npm run backup -- PATH` and `npm run restore -- PATH`: copy the store that the settings choose. */

const usage = `npm run backup -- PATH                  copies the database to PATH; servers may go on
npm run restore -- PATH [--overwrite]   puts the copy back; stop all servers first
PATH is a file with SQLite, a folder with MongoDB. The settings say which database.`

interface Task {
  isBackup: boolean
  path: string
  overwrite: boolean
}

/** @returns undefined when the arguments are none that `usage` has. */
function taskOf(args: readonly string[]): Task | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: { overwrite: { type: 'boolean', default: false } },
      allowPositionals: true,
    })
    const [name, path, ...more] = positionals
    const isBackup = name === 'backup'
    if (!path || more.length > 0 || (isBackup && values.overwrite)) return undefined
    // npm runs scripts in the package's folder; the path is meant from the caller's.
    const from = process.env.INIT_CWD ?? process.cwd()
    return { isBackup, path: resolve(from, path), overwrite: values.overwrite }
  } catch {
    return undefined
  }
}

async function inSqlite(
  { isBackup, path, overwrite }: Task,
  { DATA_DIR }: Config,
): Promise<Counts> {
  return isBackup ? backupSqlite(DATA_DIR, path) : restoreSqlite(path, DATA_DIR, overwrite)
}

async function inMongo(task: Task, uri: string, { START_TIMEOUT_MS }: Config): Promise<Counts> {
  const { connectMongo } = await import('./stores/mongo/connection.js')
  const { backupMongo, restoreMongo } = await import('./stores/mongo/backup.js')
  const { isBackup, path, overwrite } = task
  const use = (db: Db) => (isBackup ? backupMongo(db, path) : restoreMongo(path, db, overwrite))
  const { client, close } = await connectMongo(uri, Date.now() + START_TIMEOUT_MS, () => {})
  try {
    return await use(client.db(databaseOf(uri)))
  } finally {
    await close()
  }
}

async function main(): Promise<void> {
  const task = taskOf(process.argv.slice(2))
  if (!task) throw new Error(usage)
  const config = parseConfig(withEnvFile(process.env).environment)
  const { DATA_DIR, MONGODB_URI } = config
  const where = MONGODB_URI ? `MongoDB at ${describeUri(MONGODB_URI)}` : `SQLite in ${DATA_DIR}`
  const counts = await (MONGODB_URI ? inMongo(task, MONGODB_URI, config) : inSqlite(task, config))
  const told = Object.entries(counts).map(([name, count]) => `${count} ${name}`)
  const [from, to] = task.isBackup ? [where, task.path] : [task.path, where]
  process.stdout.write(`${told.join(', ')}: copied from ${from} to ${to}\n`)
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
