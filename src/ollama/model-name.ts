/** Longer names are not listed: the schemas refuse them. */
const maxNameUnits = 1000

/**
 * A model's name as Ollama compares it: without regard to case, and with its own registry,
 * `library` and `latest` where a name leaves them out.
 */
export function comparable(name: string): string {
  const bare = name
    .toLowerCase()
    .replace(/^registry\.ollama\.ai\//, '')
    .replace(/^library\//, '')
  return bare.lastIndexOf(':') > bare.lastIndexOf('/') ? bare : `${bare}:latest`
}

/** Whether a listed name can be sent to this server: whole text without control characters. */
export function isUsable(name: string): boolean {
  return name.length <= maxNameUnits && name.isWellFormed() && !/\p{Cc}/u.test(name)
}
