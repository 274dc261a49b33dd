import { readFile } from 'node:fs/promises'

/** What the documents that this server serves say of the product. */
export const product = {
  title: 'Durable chat',
  license: { name: 'MIT', url: 'https://opensource.org/license/mit' },
} as const

/** The version of package.json. */
export async function productVersion(): Promise<string> {
  const manifest = await readFile(new URL('../../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(manifest) as { version: string }).version
}
