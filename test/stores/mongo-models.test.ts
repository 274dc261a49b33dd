import mongoose from 'mongoose'
import t from 'tap'
import type { Chat } from '../../schemas/chats.js'
import type { Turn } from '../../schemas/messages.js'
import { api, outsideServices, register, startApp, testPassword } from '../services/app.js'

const uri = outsideServices(`models-${Date.now()}`).MONGODB_URI

if (!uri) {
  t.test('Mongoose', { skip: 'MONGODB_URI is not set: see test/services' }, async () => {})
} else {
  const { Schema } = mongoose
  const userSchema = new Schema({
    username: { type: String, required: true, unique: true },
    email: { type: String, required: true, unique: true },
    password: { type: String, required: true },
    createdAt: { type: Date, required: true },
  })
  const chatSchema = new Schema({
    title: { type: String, required: true },
    user: { type: Schema.Types.ObjectId, ref: 'User', required: true },
    createdAt: { type: Date, required: true },
    updatedAt: { type: Date, required: true },
  })
  const messageSchema = new Schema({
    chat: { type: Schema.Types.ObjectId, ref: 'Chat', required: true },
    user: { type: Schema.Types.ObjectId, ref: 'User', required: true },
    role: { type: String, enum: ['user', 'assistant'], required: true },
    content: { type: String, required: true },
    createdAt: { type: Date, required: true },
  })

  t.test('Mongoose models of users and chats read what the server stored', async (t) => {
    const { url } = await startApp(t, { MONGODB_URI: uri })
    const account = await register(url, 'Ada')
    const call = api(url, account.token)
    const { body: chat } = await call<Chat>('POST', '/api/ai/chats', { title: 'Models' })
    const key = { 'idempotency-key': 'once' }
    const send = { content: 'Hello' }
    const { body: turn } = await call<Turn>('POST', `/api/ai/chats/${chat.id}/messages`, send, key)

    const connection = await mongoose
      .createConnection(uri, { autoIndex: false, autoCreate: false })
      .asPromise()
    t.teardown(async () => {
      await connection.dropDatabase()
      await connection.close()
    })
    const User = connection.model('User', userSchema)
    const ChatModel = connection.model('Chat', chatSchema)
    const Message = connection.model('Message', messageSchema)

    const user = await User.findOne({ username: account.user.username }).orFail()
    await t.resolves(user.validate())
    t.equal(user.id, account.user.id)
    t.equal(user.email, account.user.email)
    t.match(user.password, /^\$2b\$/)
    t.notOk(user.password.includes(testPassword))
    t.equal(user.createdAt.toISOString(), account.user.createdAt)

    const found = await ChatModel.findById(chat.id).populate<{ user: typeof user }>('user').orFail()
    await t.resolves(found.validate())
    t.equal(found.title, 'Models')
    t.equal(found.user.username, user.username, 'the chat’s owner is found by its reference')
    t.equal(found.createdAt.toISOString(), chat.createdAt)
    t.ok(found.updatedAt >= found.createdAt)
    t.equal((await ChatModel.find({ user: user._id })).length, 1)

    const messages = await Message.find({ chat: found._id }).sort({ seq: 1 })
    t.same(
      messages.map(({ id, role }) => [id, role]),
      [
        [turn.message.id, 'user'],
        [turn.reply.id, 'assistant'],
      ],
      'an idempotent message’s id is an ObjectId, too',
    )
  })

  t.test(
    'every id and reference in the database is an ObjectId, and every time a date',
    async (t) => {
      const { app, url } = await startApp(t, { MONGODB_URI: uri })
      const account = await register(url)
      const { body: chat } = await api(url, account.token)<Chat>('POST', '/api/ai/chats', {})
      await api(url, account.token)('POST', `/api/ai/chats/${chat.id}/messages`, {
        content: 'Hello',
      })
      const db = app.mongo.client.db(new URL(uri).pathname.slice(1))
      t.teardown(() => db.dropDatabase())
      const { ObjectId } = app.mongo
      for (const name of ['users', 'sessions', 'chats', 'messages']) {
        const documents = await db.collection(name).find().toArray()
        t.ok(documents.length > 0, name)
        for (const [field, value] of documents.flatMap((document) => Object.entries(document))) {
          if (/^(_id|user|chat|activeIn)$/.test(field))
            t.ok(value instanceof ObjectId, `${name}.${field}`)
          else if (/(At|Until)$/.test(field))
            t.ok(
              [value].flat().every((one) => one instanceof Date),
              `${name}.${field}`,
            )
          else t.notMatch(JSON.stringify(value), /^"[0-9a-f]{24}"$/, `${name}.${field}`)
        }
      }
    },
  )
}
