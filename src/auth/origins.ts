import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { lastOf, type Trust } from './client-network.js'

interface OriginRules {
  /** Origins from the settings, as `URL` writes them. */
  known: readonly string[]
  /** Whether `localhost` is this server itself; elsewhere it may be any program of the machine. */
  allowLoopbackNames: boolean
  /** The proxies whose `X-Forwarded-Proto` is believed. */
  trust: Trust
}

/** Tells which browsers' pages are let in. */
export function createOrigins({ known, allowLoopbackNames, trust }: OriginRules) {
  const origins = new Set(known)

  function schemeOf({ headers, socket }: IncomingMessage): string {
    const isForwarded = headers['x-forwarded-proto'] !== undefined && trust(socket.remoteAddress, 0)
    return (isForwarded && lastOf(headers['x-forwarded-proto'])) || 'http'
  }

  /**
   * Whether `origin` is the address of this request. Only an IP address or a loopback name proves
   * that: the author of a hostile page can make any other name resolve to this server.
   */
  function isOwn(origin: string, request: IncomingMessage): boolean {
    const own = `${schemeOf(request)}://${request.headers.host}`
    if (!URL.canParse(own) || new URL(own).origin !== origin) return false
    const name = new URL(own).hostname
    return isIP(name.replace(/^\[|\]$/g, '')) !== 0 || (allowLoopbackNames && isLoopbackName(name))
  }

  return {
    isKnown: (origin: string): boolean => origins.has(origin),

    /** Whether the page that sends `request` is let in. What sends no origin is no page. */
    isAllowed(request: IncomingMessage): boolean {
      const { origin } = request.headers
      return origin === undefined || origins.has(origin) || isOwn(origin, request)
    },
  }
}

const isLoopbackName = (name: string) => name === 'localhost' || name.endsWith('.localhost')
