/** W3C Trace Context: version, trace id, parent id, flags. A version after 00 may have more. */
const pattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$/
const noTrace = '0'.repeat(32)
const noParent = '0'.repeat(16)

/** The trace id of a `traceparent` header; undefined where there is none that is valid. */
export function traceIdOf(header: string | string[] | undefined): string | undefined {
  if (typeof header !== 'string') return undefined
  const [, version, traceId, parentId, more] = pattern.exec(header) ?? []
  const isValid = version !== 'ff' && traceId !== noTrace && parentId !== noParent
  return isValid && !(version === '00' && more) ? traceId : undefined
}
