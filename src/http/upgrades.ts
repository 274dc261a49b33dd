import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'

declare module 'node:http' {
  interface ServerOptions {
    /** Since Node 24.9: whether a request with `Upgrade` emits `upgrade` (true) or `request`. */
    shouldUpgradeCallback?: (request: IncomingMessage) => boolean
  }
}

/** Socket.io's path. */
export const socketPath = '/socket.io/'

/** Whether to accept an upgrade: only Socket.io's WebSocket. */
export const isWebSocketUpgrade = ({ url, headers }: IncomingMessage): boolean =>
  headers.upgrade?.toLowerCase() === 'websocket' && url?.startsWith(socketPath) === true

/**
 * Serves every other request that asks for an upgrade as a plain request; Java's HttpClient sends
 * `Upgrade: h2c`. Puts the head back without `Upgrade` and emits `connection` again.
 * @param server with all its `upgrade` listeners attached.
 */
export function ignoreOtherUpgrades(server: Server): void {
  // engine.io's listener would refuse them on its path.
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

/** Headers that only describe the upgrade. */
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
    const options = value.split(',').map((option) => option.trim())
    const others = options.filter((option) => !upgradeHeaders.has(option.toLowerCase()))
    if (others.length > 0) lines.push(`${name}: ${others.join(', ')}`)
  }
  // Node reads headers as Latin-1.
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
}
