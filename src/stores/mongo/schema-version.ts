import type { Db } from 'mongodb'

/** What this program reads and writes. Version 1 had no `pieces` in its messages. */
const schemaVersion = 2

/** The collections that this program makes after it has marked the database. */
const collections = ['users', 'sessions', 'chats', 'messages']

/**
 * Refuses another application's database, and records that a newer program wrote, and marks the database with this one's version. Many
 * processes may do so at once.
 * @throws Error that says what was found; nothing was touched then.
 */
export async function holdSchemaVersion(db: Db): Promise<void> {
  const schema = db.collection<{ _id: 'schema'; version: number }>('meta')
  const found = await schema.findOne({ _id: 'schema' })
  if (found && found.version > schemaVersion) {
    throw new Error(
      `its records are of version ${found.version}, and this program knows ${schemaVersion}: ` +
        'start the newer program that wrote them',
    )
  }
  if (found?.version === schemaVersion) return
  if (!found) await refuseForeign(db)
  await schema.updateOne({ _id: 'schema' }, { $max: { version: schemaVersion } }, { upsert: true })
}

async function refuseForeign(db: Db): Promise<void> {
  for (const name of collections) {
    const record = await db.collection(name).findOne()
    if (!record) continue
    throw new Error(
      `its database "${db.databaseName}" has a collection "${name}" that this program did not ` +
        `make (its records have ${Object.keys(record).slice(0, 6).join(', ')}), so it belongs to ` +
        'another application. Name another database in MONGODB_URI, such as ' +
        'mongodb://host/durable-chat; it is made at the first start',
    )
  }
}
