import type { Db } from 'mongodb'
import { collectionNames } from './collections.js'

/** The layout that this program reads and writes. Before 3 (release 0.1) ids were strings. */
export const schemaVersion = 3

/**
 * Marks the database with this program's layout version. Several processes may do so at once.
 * @throws Error when another application, or another version of this one, made the database; nothing
 * was written then.
 */
export async function claimDatabase(db: Db): Promise<void> {
  const schema = db.collection<{ _id: 'schema'; version: number }>('meta')
  const found = await schema.findOne({ _id: 'schema' })
  if (found) {
    if (found.version !== schemaVersion) throw new Error(otherVersion(db, found.version))
    return
  }
  await refuseForeign(db)
  await schema.updateOne({ _id: 'schema' }, { $max: { version: schemaVersion } }, { upsert: true })
}

function otherVersion({ databaseName }: Db, version: number): string {
  const found = `its database "${databaseName}" has layout version ${version}`
  return version > schemaVersion
    ? `${found}, and this program knows ${schemaVersion}: start the newer program that made it`
    : `${found}, of release 0.1, which this program cannot read. Keep running release 0.1 on it, or ` +
        'name another database in MONGODB_URI; it is created at the first start'
}

async function refuseForeign(db: Db): Promise<void> {
  for (const name of collectionNames) {
    const document = await db.collection(name).findOne()
    if (!document) continue
    throw new Error(
      `its database "${db.databaseName}" has a collection "${name}" that this program did not ` +
        `create (its documents have ${Object.keys(document).slice(0, 6).join(', ')}), so it belongs ` +
        'to another application. Name another database in MONGODB_URI, such as ' +
        'mongodb://host/durable-chat; it is created at the first start',
    )
  }
}
