const protocols: ReadonlySet<string> = new Set(['http:', 'https:', 'mailto:'])

/** The address of a link that may be followed: absolute, and of the web or of mail. */
export function safeAddress(href: string): URL | undefined {
  if (!URL.canParse(href)) return undefined
  const url = new URL(href)
  return protocols.has(url.protocol) ? url : undefined
}
