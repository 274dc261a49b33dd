import { MongoError, MongoServerError } from 'mongodb'
import { AppError } from '../../errors.js'

/** What a server says that is stepping down, shutting down, overloaded or cut off. */
const unavailableCodes = new Set([
  6, 7, 50, 64, 89, 91, 189, 202, 262, 9001, 10058, 10107, 11600, 11602, 13388, 13435, 13436,
])
const outOfDiskSpace = 14031

export function isDuplicate(error: unknown): boolean {
  return error instanceof MongoServerError && error.code === 11000
}

/** Whether the server could not be asked, so that what was asked may or may not have been done. */
export function isUnavailable(error: unknown): boolean {
  if (error instanceof MongoServerError) return unavailableCodes.has(Number(error.code))
  return error instanceof MongoError
}

function translated(error: unknown): unknown {
  if (error instanceof MongoServerError && error.code === outOfDiskSpace) {
    return new AppError('STORAGE_FULL', { cause: error })
  }
  return isUnavailable(error) ? new AppError('STORE_UNAVAILABLE', { cause: error }) : error
}

/** The same methods, whose driver errors become the store's. */
export function withStoreErrors<M extends object>(methods: M): M {
  const guarded = Object.entries(methods).map(([name, method]) => [
    name,
    async (...values: unknown[]) => {
      try {
        return await method(...values)
      } catch (error) {
        throw translated(error)
      }
    },
  ])
  return Object.fromEntries(guarded)
}
