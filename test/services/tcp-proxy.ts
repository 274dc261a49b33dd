import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

interface Teardown {
  teardown(end: () => unknown): unknown
}

/**
 * What goes wrong between a client and its service:
 * - `silent`: connections stay, and nothing passes any more in either direction;
 * - `cut`: connections are closed, and new ones refused;
 * - `deaf`: what is asked arrives, and the connection is closed when the answer comes.
 */
export type Fault = 'silent' | 'cut' | 'deaf'

/** A proxy before a service on 127.0.0.1 that can fail. */
export async function startTcpProxy(t: Teardown, target: string) {
  const { hostname, port } = new URL(target)
  const pairs = new Set<readonly [Socket, Socket]>()
  let fault: Fault | undefined
  let lost: { text: string; passed: () => void } | undefined
  let trap: { text: string; kind: Fault; sprung: () => void } | undefined

  const server = createServer((client) => {
    if (fault === 'cut') return client.destroy()
    const service = connect(Number(port), hostname)
    const pair = [client, service] as const
    pairs.add(pair)
    let isLost = false
    client.on('data', (data) => {
      if (trap && data.includes(trap.text)) {
        fail(trap.kind)
        trap.sprung()
        trap = undefined
        return
      }
      if (lost && data.includes(lost.text)) {
        isLost = true
        lost.passed()
        lost = undefined
      }
      service.write(data)
    })
    service.on('data', (data) => {
      if (fault === 'deaf' || isLost) client.destroy()
      else client.write(data)
    })
    for (const [socket, other] of [pair, [service, client] as const]) {
      if (fault === 'silent') socket.pause()
      // Each end's failure closes the other.
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        other.destroy()
        pairs.delete(pair)
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  t.teardown(() => {
    cutAll()
    server.close()
  })

  function cutAll(): void {
    for (const socket of [...pairs].flat()) socket.destroy()
  }

  function fail(kind: Fault): void {
    fault = kind
    if (kind === 'cut') cutAll()
    if (kind === 'silent') for (const socket of [...pairs].flat()) socket.pause()
  }

  return {
    /** The target's URL, with the proxy's address. */
    url: target.replace(/\/\/[^/?]+/, `//${address}`),
    fail,
    /** Fails before the next request that contains the text is passed on. */
    async failBefore(text: string, kind: Fault): Promise<void> {
      await new Promise<void>((sprung) => {
        trap = { text, kind, sprung }
      })
    },
    /** The answer to the next request that contains the text is lost, and its connection closed. */
    async loseAnswerTo(text: string): Promise<void> {
      await new Promise<void>((passed) => {
        lost = { text, passed }
      })
    },
    repair() {
      fault = undefined
      for (const socket of [...pairs].flat()) socket.resume()
    },
  }
}
