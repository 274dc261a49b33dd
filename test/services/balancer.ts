import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A TCP load balancer: gives each new connection to the next server that listens. */
export async function startBalancer(urls: readonly string[]) {
  const ports = urls.map((url) => Number(new URL(url).port))
  const sockets = new Set<Socket>()
  let turn = 0

  /** A connection to the next server that takes one. */
  async function reach(): Promise<Socket | undefined> {
    for (let tries = 0; tries < ports.length; tries += 1) {
      turn += 1
      const upstream = connect(ports[turn % ports.length] ?? 0, '127.0.0.1')
      const connected = await once(upstream, 'connect').then(
        () => true,
        () => false,
      )
      if (connected) return upstream
    }
    return undefined
  }

  const server = createServer({ pauseOnConnect: true }, async (client) => {
    keep(client)
    const upstream = await reach()
    if (!upstream) return client.destroy()
    keep(upstream)
    client.once('close', () => upstream.destroy())
    upstream.once('close', () => client.destroy())
    client.pipe(upstream).pipe(client)
    client.resume()
  })

  function keep(socket: Socket): void {
    sockets.add(socket)
    // Each end's failure closes the other.
    socket.on('error', () => socket.destroy())
    socket.once('close', () => sockets.delete(socket))
  }

  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close(): Promise<void> {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
