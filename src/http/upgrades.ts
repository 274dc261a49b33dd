import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'

declare module 'node:http' {
  interface ServerOptions {
    /** Since Node 24.9: whether a request that asks for an upgrade emits `upgrade` or `request`. */
    shouldUpgradeCallback?: (request: IncomingMessage) => boolean
  }
}

/** Socket.io's path. */
export const socketPath = '/socket.io/'

/** Whether a request's wish to upgrade is heard: a WebSocket of Socket.io's. */
export const isWebSocketUpgrade = ({ url, headers }: IncomingMessage): boolean =>
  headers.upgrade?.toLowerCase() === 'websocket' && url?.startsWith(socketPath) === true

/**
 * Answers every other request that asks for an upgrade (Java's HttpClient offers HTTP/2 so, by
 * `Upgrade: h2c`) as if it had not: its head goes back to the connection without the wish, in front
 * of what follows it, and the connection is served from the start.
 * @param server whose listeners for `upgrade` are all there.
 */
export function ignoreOtherUpgrades(server: Server): void {
  // Engine.io's would refuse them on its path.
  const listeners = server.listeners('upgrade')
  server.removeAllListeners('upgrade')
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (isWebSocketUpgrade(request)) {
      for (const listener of listeners) listener.call(server, request, socket, head)
      return
    }
    socket.unshift(Buffer.concat([headWithoutUpgrade(request), head]))
    server.emit('connection', socket)
  })
}

/** Headers that speak of the upgrade alone. */
const upgradeHeaders: ReadonlySet<string> = new Set(['upgrade', 'http2-settings'])

function headWithoutUpgrade({ method, url, httpVersion, rawHeaders }: IncomingMessage): Buffer {
  const lines = [`${method} ${url} HTTP/${httpVersion}`]
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name = '', value = ''] = rawHeaders.slice(i, i + 2)
    if (upgradeHeaders.has(name.toLowerCase())) continue
    if (name.toLowerCase() !== 'connection') {
      lines.push(`${name}: ${value}`)
      continue
    }
    const wishes = value.split(',').map((wish) => wish.trim())
    const others = wishes.filter((wish) => !upgradeHeaders.has(wish.toLowerCase()))
    if (others.length > 0) lines.push(`${name}: ${others.join(', ')}`)
  }
  // Node reads headers as Latin-1.
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
}
