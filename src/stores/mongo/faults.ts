import { MongoBulkWriteError, MongoError, MongoServerError } from 'mongodb'
import { AppError } from '../../errors.js'
import { inTime, LateError } from '../../within.js'

/** Errors of a server that is stepping down, shutting down, overloaded or cut off. */
const unavailableCodes = new Set([
  6, 7, 50, 64, 89, 91, 189, 202, 262, 9001, 10058, 10107, 11600, 11602, 13388, 13435, 13436,
])
const outOfDiskSpace = 14031

/** The longest that a method of the store may take, in milliseconds. */
export const operationTimeoutMs = 5000

export function isDuplicate(error: unknown): boolean {
  return error instanceof MongoServerError && error.code === 11000
}

/** Whether the server was not reached or did not answer: the operation may or may not be done. */
export function isUnavailable(error: unknown): boolean {
  // A bulk write wraps its connection's error as if the server had sent it.
  if (error instanceof MongoBulkWriteError && error.errorResponse instanceof Error) {
    return isUnavailable(error.errorResponse)
  }
  if (error instanceof MongoServerError) return unavailableCodes.has(Number(error.code))
  return error instanceof MongoError || isSocketError(error)
}

/** The driver passes some errors of its sockets on unchanged. */
const isSocketError = (error: unknown) =>
  error instanceof Error &&
  'code' in error &&
  /^(E[A-Z]+|ERR_(STREAM|SOCKET)_.*)$/.test(String(error.code))

function translated(error: unknown): unknown {
  if (error instanceof MongoServerError && error.code === outOfDiskSpace) {
    return new AppError('STORAGE_FULL', { cause: error })
  }
  const isAway = error instanceof LateError || isUnavailable(error)
  return isAway ? new AppError('STORE_UNAVAILABLE', { cause: error }) : error
}

/**
 * The same methods, rejecting with the store's errors in place of the driver's, and after
 * `operationTimeoutMs`: no limit of the driver's holds in every state of its connections. What is late
 * may still be done, so every method can be repeated.
 */
export function withStoreErrors<M extends object>(methods: M): M {
  const guarded = Object.entries(methods).map(([name, method]) => [
    name,
    async (...values: unknown[]) => {
      try {
        return await inTime(method(...values), operationTimeoutMs)
      } catch (error) {
        throw translated(error)
      }
    },
  ])
  return Object.fromEntries(guarded)
}
