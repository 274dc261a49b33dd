import type { Db } from 'mongodb'

/** What this program reads and writes. Version 1 had no `pieces` in its messages. */
const schemaVersion = 2

/**
 * Refuses records that a newer program wrote, and marks the database with this one's version. Many
 * processes may do so at once.
 * @throws Error when the records are newer; nothing was touched then.
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
  await schema.updateOne({ _id: 'schema' }, { $max: { version: schemaVersion } }, { upsert: true })
}
