/** The database that a MongoDB URI names, or the default. */
export const databaseOf = (uri: string) =>
  /^[^/]*\/\/[^/]*\/([^?]+)/.exec(uri)?.[1] ?? 'durable-chat'

/** The hosts and database of a MongoDB URI. Everything before the last @ may be a password. */
export function describeUri(uri: string): string {
  return uri
    .replace(/^mongodb(\+srv)?:\/\//, '')
    .replace(/^.*@/s, '')
    .replace(/\?.*$/s, '')
}
