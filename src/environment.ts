import { existsSync, readFileSync } from 'node:fs'
import { parseEnvFile } from './config.js'

/**
 * The variables of `.env` in the working directory, under those of the process, which win.
 * @throws Error when `.env` is not UTF-8.
 */
export function withEnvFile(own: NodeJS.ProcessEnv) {
  const file = existsSync('.env') ? parseEnvFile(readFileSync('.env')) : {}
  return { environment: { ...file, ...own }, inFile: Object.keys(file) }
}
