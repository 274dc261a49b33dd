import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { BSON } from 'mongodb'

interface Teardown {
  teardown(end: () => unknown): unknown
}

const opMsg = 2013
const opQuery = 2004
const opReply = 1

/**
 * A server that claims to be a MongoDB of some version and answers a driver's handshake alone:
 * https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/.
 * @returns its URI.
 */
export async function startMongoStandIn(t: Teardown, version: string, maxWireVersion: number) {
  const sockets = new Set<Socket>()
  const answer = {
    ok: 1,
    ismaster: true,
    isWritablePrimary: true,
    minWireVersion: 0,
    maxWireVersion,
    version,
  }
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    let rest = Buffer.alloc(0)
    socket.on('data', (data) => {
      rest = Buffer.concat([rest, data])
      while (rest.length >= 16 && rest.length >= rest.readInt32LE(0)) {
        const request = rest.subarray(0, rest.readInt32LE(0))
        rest = rest.subarray(request.length)
        const reply = replyTo(request, answer)
        if (reply) socket.write(reply)
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `mongodb://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function replyTo(request: Buffer, answer: object): Buffer | undefined {
  const operation = request.readInt32LE(12)
  const body = BSON.serialize(answer)
  if (operation === opMsg) return message(request, opMsg, Buffer.alloc(5), body)
  if (operation !== opQuery) return undefined
  const header = Buffer.alloc(20)
  header.writeInt32LE(1, 16)
  return message(request, opReply, header, body)
}

function message(request: Buffer, operation: number, header: Buffer, body: Uint8Array): Buffer {
  const start = Buffer.alloc(16)
  start.writeInt32LE(start.length + header.length + body.length, 0)
  start.writeInt32LE(request.readInt32LE(4), 8)
  start.writeInt32LE(operation, 12)
  return Buffer.concat([start, header, body])
}
