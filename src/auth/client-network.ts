import { BlockList, isIP, isIPv6 } from 'node:net'

const familyOf = (address: string) => (isIPv6(address) ? 'ipv6' : 'ipv4')

/** Whether the peer at `address`, `hop` proxies away, is a proxy whose headers are believed. */
export type Trust = (address: string | undefined, hop: number) => boolean

/** @param setting `false`, the number of proxies in front, or their networks. */
export function createTrust(setting: false | number | readonly string[]): Trust {
  if (setting === false) return () => false
  return typeof setting === 'number' ? (_address, hop) => hop < setting : within(setting)
}

/** Whether an address is in one of `networks`: addresses, or `10.0.0.0/8`. */
function within(networks: readonly string[]) {
  const list = new BlockList()
  for (const network of networks) {
    const [address = '', bits] = network.split('/')
    if (bits === undefined) list.addAddress(address, familyOf(address))
    else list.addSubnet(address, Number(bits), familyOf(address))
  }
  return (address = ''): boolean => isIP(address) !== 0 && list.check(address, familyOf(address))
}

export const isLoopback = within(['127.0.0.0/8', '::1'])

/** The last value of a header: the one that the nearest proxy added. */
export const lastOf = (header: string | string[] | undefined) =>
  String(header ?? '')
    .split(',')
    .at(-1)
    ?.trim()

/** A network that limits are counted for, and how many times the limit it may use. */
interface CountedNetwork {
  network: string
  factor: number
}

/**
 * The networks that a client at `address` is counted in, the narrowest first: an IPv4 address; of
 * IPv6 the /64, in which a client picks addresses at will, and the /48, which a site may have. None
 * where `address` is no IP address.
 */
export function clientNetworks(address: string): CountedNetwork[] {
  const bare = address.replace(/%.*$/, '')
  if (!isIPv6(bare)) return isIP(bare) ? [{ network: bare, factor: 1 }] : []
  const groups = groupsOf(bare)
  if (groups.slice(0, 5).every((group) => group === '0') && groups[5] === 'ffff') {
    return [{ network: mappedIPv4(groups), factor: 1 }]
  }
  return [
    { network: `${groups.slice(0, 4).join(':')}::/64`, factor: 1 },
    { network: `${groups.slice(0, 3).join(':')}::/48`, factor: 10 },
  ]
}

/** The most addresses that one client may have: the /48 of an IPv6 /64, else the network itself. */
export const siteOf = (network: string) =>
  network.endsWith('::/64') ? `${network.split(':').slice(0, 3).join(':')}::/48` : network

/** The eight groups of an IPv6 address, in lower case and without leading zeros. */
function groupsOf(address: string): string[] {
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1)
  const [head = '', tail] = canonical.split('::')
  const groups = head === '' ? [] : head.split(':')
  const behind = tail ? tail.split(':') : []
  if (tail !== undefined) groups.push(...Array(8 - groups.length - behind.length).fill('0'))
  return [...groups, ...behind]
}

/** The IPv4 address in `::ffff:a.b.c.d`. */
function mappedIPv4(groups: readonly string[]): string {
  const bytes = groups.slice(6).flatMap((group) => {
    const value = Number.parseInt(group, 16)
    return [value >> 8, value & 255]
  })
  return bytes.join('.')
}
