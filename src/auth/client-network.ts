import { isIPv6 } from 'node:net'

/**
 * Whom a limit by address counts: an IPv4 address, or the /64 of an IPv6 one, within which a client
 * picks its addresses at will.
 */
export function clientNetwork(address: string): string {
  const bare = address.replace(/%.*$/, '')
  if (!isIPv6(bare)) return bare
  const canonical = new URL(`http://[${bare}]`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical)
  if (mapped) {
    const bytes = [mapped[1], mapped[2]].flatMap((group) => {
      const value = Number.parseInt(group ?? '', 16)
      return [value >> 8, value & 255]
    })
    return bytes.join('.')
  }
  const [head = '', tail] = canonical.split('::')
  const groups = head === '' ? [] : head.split(':')
  const behind = tail ? tail.split(':') : []
  if (tail !== undefined) groups.push(...Array(8 - groups.length - behind.length).fill('0'))
  return `${[...groups, ...behind].slice(0, 4).join(':')}::/64`
}
