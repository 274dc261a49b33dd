import { isUtf8 } from 'node:buffer'
import { readFileSync, statSync } from 'node:fs'

const mostBytes = 64 * 1024

/**
 * What a secret's file holds, without the newline that editors end it with.
 * @throws Error that says why it cannot be used, without the path: some set the secret itself there.
 */
export function readSecretFile(path: string): string {
  const bytes = readRegularFile(path)
  if (!isUtf8(bytes)) throw new Error('names a file that is not UTF-8 text')
  const value = new TextDecoder().decode(bytes).replace(/\r?\n$/, '')
  if (value === '') throw new Error('names a file that is empty')
  return value
}

function readRegularFile(path: string): Buffer {
  const stats = attempt(() => statSync(path))
  if (stats.isDirectory()) {
    throw new Error(
      'names a directory: Docker makes one in place of a file to mount that is not there',
    )
  }
  // Reading a pipe or a device might never end.
  if (!stats.isFile()) throw new Error('names something that is not a regular file')
  if (stats.size > mostBytes) throw new Error(`names a file of more than ${mostBytes} bytes`)
  return attempt(() => readFileSync(path))
}

function attempt<T>(action: () => T): T {
  try {
    return action()
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? ` (${error.code})` : ''
    throw new Error(`names a file that this process cannot read${code}`)
  }
}
