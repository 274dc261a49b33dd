import { parseEnv } from 'node:util'

const decoder = new TextDecoder('utf-8', { fatal: true })

/**
 * The variables of a `.env` file, with or without a byte order mark.
 * @throws Error that says how to save it, when it is not UTF-8.
 */
export function parseEnvFile(bytes: Uint8Array): NodeJS.Dict<string> {
  const text = decode(bytes)
  // UTF-16 without a byte order mark is UTF-8 with a NUL at every second place.
  if (text === undefined || text.includes('\0')) {
    throw new Error(
      '.env is not UTF-8: save it in that encoding. PowerShell 5 writes UTF-16; ' +
        '"Set-Content -Encoding utf8" does not.',
    )
  }
  return parseEnv(text)
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}
