/**
 * Tells which browsers' pages are let in.
 * @param frontends the origins from the settings, as `URL` writes them.
 */
export function createOrigins(frontends: readonly string[]) {
  const known = new Set(frontends)

  return {
    isFrontend: (origin: string): boolean => known.has(origin),

    /**
     * Whether a request may come from a page of `origin`: one of the settings', the server's own
     * (by the request's `Host`), or none at all, as of what is no browser.
     */
    isAllowed(origin: string | undefined, host: string | undefined): boolean {
      return origin === undefined || known.has(origin) || isOwn(origin, host)
    },
  }
}

function isOwn(origin: string, host: string | undefined): boolean {
  const scheme = /^https?:\/\//.exec(origin)?.[0]
  if (!scheme || !host || !URL.canParse(scheme + host)) return false
  return new URL(scheme + host).origin === origin
}
