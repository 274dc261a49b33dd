import type { Db } from 'mongodb'
import { createAccounts } from './mongo/accounts.js'
import { createChats } from './mongo/chats.js'
import { openCollections } from './mongo/collections.js'
import { Deletions } from './mongo/deletions.js'
import { withStoreErrors } from './mongo/faults.js'
import { createMessages } from './mongo/messages.js'
import { claimDatabase } from './mongo/schema-version.js'
import type { Store } from './store.js'

/**
 * The store in a MongoDB, with its indexes created. It needs only single-document atomicity, ordered
 * bulk writes, and unique and sparse indexes.
 * @param db a database of a connected client, which its opener closes after the store.
 * @throws the driver's error when the server does not answer; Error when the database is another
 * application's or of another layout version.
 */
export async function createMongoStore(db: Db): Promise<Store> {
  await claimDatabase(db)
  const collections = await openCollections(db)
  const deletions = new Deletions(collections)
  await deletions.finish()
  return withStoreErrors<Store>({
    async ping() {
      await db.command({ ping: 1 })
    },
    async close() {
      deletions.close()
    },
    finishDeletions: () => deletions.finish(),
    ...createAccounts(collections, deletions),
    ...createChats(collections, deletions),
    ...createMessages(collections),
  })
}
