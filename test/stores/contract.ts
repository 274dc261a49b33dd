import type { Test } from 'tap'
import type { Store } from '../../src/stores/store.js'
import { accountContract } from './contract/accounts.js'
import { chatContract } from './contract/chats.js'
import { replyContract } from './contract/replies.js'
import type { Subject } from './contract/subject.js'
import { turnContract } from './contract/turns.js'
import { aChat } from './rows.js'

/** What every store must do. Each part makes ids of its own, so that one store serves them all. */
export function storeContract(t: Test, open: () => Promise<Store>) {
  let store: Store
  t.before(async () => {
    store = await open()
  })
  t.teardown(() => store?.close())

  const subject: Subject = {
    store: () => store,
    async newChat(fields = {}) {
      const chat = aChat(fields)
      await store.createChat(chat)
      return chat
    },
  }

  t.test('answers a ping', async (t) => {
    await t.resolves(store.ping())
  })
  accountContract(t, subject)
  chatContract(t, subject)
  turnContract(t, subject)
  replyContract(t, subject)
}
