import { createReadStream, createWriteStream, existsSync, mkdirSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { BSON, type Db, type Document } from 'mongodb'
import { type Counts, discardPartial, finish, partialOf, refuseExisting, sync } from '../backup.js'
import { schemaVersion } from './schema-version.js'

/**
 * In this order: a turn that is stored meanwhile is one whose chat has not been updated yet, and a
 * server that finds such a turn updates its chat.
 */
const collections = ['users', 'chats', 'messages', 'sessions'] as const satisfies (keyof Counts)[]

/** What makes a folder a backup; written last. */
interface Manifest {
  format: 'durable-chat-mongodb'
  schema: number
  createdAt: string
  counts: Counts
}
const format: Manifest['format'] = 'durable-chat-mongodb'

/** A batch of inserts has at most so many documents, and bytes but for its last one. */
const batch = { documents: 500, bytes: 8 * 1024 * 1024 }
const majority = { writeConcern: { w: 'majority' } } as const

/**
 * Writes all documents of `db` to `folder`, those of a collection to one file of BSON. What was
 * acknowledged before is in it; servers may write meanwhile.
 * @throws the driver's error, or Error that says what to do.
 */
export async function backupMongo(db: Db, folder: string): Promise<Counts> {
  const schema = await schemaOf(db)
  refuseExisting(folder)
  discardPartial(folder)
  const partial = partialOf(folder)
  try {
    mkdirSync(partial, { mode: 0o700 })
    const counts: Counts = { users: 0, chats: 0, messages: 0, sessions: 0 }
    for (const name of collections) {
      counts[name] = await writeCollection(db, name, join(partial, `${name}.bson`))
    }
    const manifest: Manifest = { format, schema, createdAt: new Date().toISOString(), counts }
    const file = join(partial, 'backup.json')
    await writeFile(file, `${JSON.stringify(manifest, undefined, 2)}\n`, { mode: 0o600 })
    sync(file)
    finish(folder)
    return counts
  } catch (error) {
    discardPartial(folder)
    throw error
  }
}

async function schemaOf(db: Db): Promise<number> {
  const found = await db
    .collection<{ _id: string; version: number }>('meta')
    .findOne({ _id: 'schema' })
  if (found) return found.version
  throw new Error(`The database "${db.databaseName}" is not this program’s: nothing to back up.`)
}

async function writeCollection(db: Db, name: string, file: string): Promise<number> {
  let count = 0
  // In the order of _id, which no update changes: each document is read once.
  const cursor = db.collection(name).find({}, { raw: true, sort: { _id: 1 } })
  async function* bytes() {
    for await (const document of cursor) {
      count += 1
      yield document as unknown as Buffer
    }
  }
  await pipeline(bytes, createWriteStream(file, { mode: 0o600 }))
  sync(file)
  return count
}

/**
 * Inserts a backup's documents into `db`. Indexes are made by the server that starts on it.
 * @param overwrite whether a database that has documents may be replaced.
 * @throws the driver's error, or Error that says what to do.
 */
export async function restoreMongo(folder: string, db: Db, overwrite: boolean): Promise<Counts> {
  const { schema, counts } = await inspect(folder)
  await clear(db, overwrite)
  const meta = db.collection<{ _id: string; version?: number }>('meta')
  // A restore that is interrupted leaves this, which lets the next one begin anew.
  await meta.insertOne({ _id: 'restoring' }, majority)
  for (const name of collections) await insertAll(db, name, fileOf(folder, name))
  await meta.insertOne({ _id: 'schema', version: schema }, majority)
  await meta.deleteOne({ _id: 'restoring' }, majority)
  return counts
}

const fileOf = (folder: string, name: string) => join(folder, `${name}.bson`)

/** Reads a backup whole before anything is written. */
async function inspect(folder: string): Promise<Manifest> {
  const path = join(folder, 'backup.json')
  if (!existsSync(path)) {
    throw new Error(
      `${folder} is no folder that \`npm run backup\` wrote: it has no backup.json. A backup of SQLite ` +
        'is a file: unset MONGODB_URI to restore one.',
    )
  }
  const manifest = JSON.parse(await readFile(path, 'utf8')) as Manifest
  if (manifest.format !== format) throw new Error(`${path} does not describe a backup of MongoDB.`)
  if (manifest.schema !== schemaVersion) {
    throw new Error(
      `${folder} has layout version ${manifest.schema}, and this program knows ${schemaVersion}: ` +
        'restore it by the version that made it.',
    )
  }
  for (const name of collections) {
    let found = 0
    for await (const _document of documentsIn(fileOf(folder, name))) found += 1
    const wanted = manifest.counts[name]
    if (found === wanted) continue
    throw new Error(`${folder} is damaged: it has ${found} ${name}, and should have ${wanted}.`)
  }
  return manifest
}

/** @throws Error unless the database is empty, or this program's and may be replaced. */
async function clear(db: Db, overwrite: boolean): Promise<void> {
  const names = ['meta', ...collections]
  const found = await Promise.all(names.map((name) => db.collection(name).findOne()))
  const taken = names.filter((_name, index) => found[index])
  if (taken.length === 0) return
  const own = await db.collection<{ _id: string }>('meta').findOne({
    _id: { $in: ['schema', 'restoring'] },
  })
  if (!own) {
    throw new Error(
      `The database "${db.databaseName}" is another application’s: it has ${taken.join(', ')}. ` +
        'Name another database in MONGODB_URI.',
    )
  }
  if (!overwrite) {
    throw new Error(
      `The database "${db.databaseName}" is not empty: name another one in MONGODB_URI, or add ` +
        '--overwrite to replace all that is in it.',
    )
  }
  // The mark goes last: what is left is this program's until then.
  for (const name of collections) await db.collection(name).deleteMany({}, majority)
  await db.collection('meta').deleteMany({}, majority)
}

async function insertAll(db: Db, name: string, file: string): Promise<void> {
  const collection = db.collection(name)
  let documents: Document[] = []
  let bytes = 0
  const insert = async () => {
    if (documents.length > 0)
      await collection.insertMany(documents, { ordered: false, ...majority })
    documents = []
    bytes = 0
  }
  for await (const document of documentsIn(file)) {
    // Numbers stay of the type that they had.
    documents.push(BSON.deserialize(document, { promoteValues: false }))
    bytes += document.length
    if (documents.length === batch.documents || bytes > batch.bytes) await insert()
  }
  await insert()
}

/** The documents of a file of BSON: each begins with its length. @throws Error when it is cut. */
async function* documentsIn(file: string): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0)
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) {
    rest = Buffer.concat([rest, chunk as Buffer])
    let start = 0
    while (rest.length - start >= 4) {
      const length = rest.readInt32LE(start)
      if (length < 5) throw new Error(`${file} is damaged.`)
      if (rest.length - start < length) break
      yield rest.subarray(start, start + length)
      start += length
    }
    rest = rest.subarray(start)
  }
  if (rest.length > 0) throw new Error(`${file} is damaged: its last document is cut.`)
}
