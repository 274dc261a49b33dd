import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'

/** How many of each a backup has. */
export interface Counts {
  users: number
  chats: number
  messages: number
  sessions: number
}

/** Where a backup is written until it is whole. */
export const partialOf = (path: string) => `${path}.partial`

/** @throws Error when there is something at `path`. */
export function refuseExisting(path: string): void {
  if (existsSync(path))
    throw new Error(`${path} is there already: name another path, or remove it.`)
}

/** Has the disk keep a file, or the names in a folder. */
export function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** Gives what was written at `partialOf(path)` its name, once the disk has it. */
export function finish(path: string): void {
  sync(partialOf(path))
  renameSync(partialOf(path), path)
  sync(dirname(path))
}

/** Removes what an earlier attempt, or one that failed, has left. */
export function discardPartial(path: string): void {
  rmSync(partialOf(path), { recursive: true, force: true })
}
