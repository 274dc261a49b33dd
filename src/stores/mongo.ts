import type { Db } from 'mongodb'
import { createAccounts } from './mongo/accounts.js'
import { createChats } from './mongo/chats.js'
import { openCollections } from './mongo/collections.js'
import { Deletions } from './mongo/deletions.js'
import { withStoreErrors } from './mongo/faults.js'
import { createMessages } from './mongo/messages.js'
import { holdSchemaVersion } from './mongo/schema-version.js'
import type { Store } from './store.js'

/**
 * The store in a MongoDB, with its indexes made. It asks no more of the server than single-document
 * atomicity, ordered bulk writes and unique and sparse indexes.
 * @param close what to do when the store is closed; the client is its opener's.
 * @throws the driver's error when the server does not answer, and Error where its records are newer.
 */
export async function createMongoStore(db: Db, close: () => Promise<void>): Promise<Store> {
  await holdSchemaVersion(db)
  const collections = await openCollections(db)
  const deletions = new Deletions(collections)
  await deletions.finish()
  return withStoreErrors<Store>({
    async ping() {
      await db.command({ ping: 1 })
    },
    async close() {
      deletions.close()
      await close()
    },
    finishDeletions: () => deletions.finish(),
    ...createAccounts(collections, deletions),
    ...createChats(collections, deletions),
    ...createMessages(collections),
  })
}
