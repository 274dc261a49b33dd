/** What the build scripts share: when a source was written, and how an output is. */
import { mkdirSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * When a file was written, in milliseconds; 0 where there is none. By ctime, since a file that is copied
 * or unpacked may bring an old mtime.
 */
export const changedMs = (path) => statSync(path, { throwIfNoEntry: false })?.ctimeMs ?? 0

/** The time that an output bears, in milliseconds; 0 where there is none. */
export const builtMs = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0

/**
 * Replaces a file in one step, so that servers that start at the same time load whole files.
 * @param began what time it shall bear: a source that is written from then on is built again.
 */
export function replaceFile(path, contents, began) {
  mkdirSync(dirname(path), { recursive: true })
  const temporary = `${path}.${process.pid}`
  writeFileSync(temporary, contents)
  if (began) utimesSync(temporary, began, began)
  renameSync(temporary, path)
}
