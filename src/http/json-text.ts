import jsonc from 'jsonc-parser'
import { AppError } from '../errors.js'

const maxDepth = 32
/** Far more than any request needs; bounds the work of validation, which may report every value. */
const maxValues = 10_000

const decoder = new TextDecoder('utf-8', { fatal: true })

/**
 * Parses a request's bytes and checks the value with `assertPlainJson`.
 * @throws AppError BAD_TEXT, BAD_JSON, TOO_DEEP, VALIDATION_FAILED.
 */
export function parseJson(bytes: Uint8Array): unknown {
  const value = parse(decode(bytes))
  assertPlainJson(value)
  return value
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes)
  } catch {
    throw new AppError('BAD_TEXT', { message: 'The body is not UTF-8.' })
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // JSON.parse quotes the body in its message, and the body may hold a password.
    throw new AppError('BAD_JSON', { message: `The body is not JSON${whereBroken(text)}.` })
  }
}

/** Describes the position of the first syntax error. */
function whereBroken(text: string): string {
  let position: number | undefined
  const stop = new Error('found')
  try {
    jsonc.visit(
      text,
      {
        onError(_code, offset) {
          position = offset
          throw stop
        },
      },
      { disallowComments: true },
    )
  } catch (error) {
    // The visitor recurses, so deeply nested brackets overflow the stack.
    if (error !== stop && !(error instanceof RangeError)) throw error
  }
  if (position === undefined) return ''
  const before = text.slice(0, position)
  const line = before.split('\n').length
  const column = position - before.lastIndexOf('\n')
  const what = text.slice(position).trim() === '' ? 'it ends too early, at' : 'see'
  return `: ${what} line ${line}, column ${column} (position ${position})`
}

/**
 * Refuses text that could be stored but not read back (NUL, lone surrogates), nesting that would
 * overflow a stack, and keys that reach an object's prototype. It does not recurse.
 * @param value a parsed JSON value.
 * @throws AppError BAD_TEXT, TOO_DEEP, VALIDATION_FAILED.
 */
export function assertPlainJson(value: unknown): void {
  let level = [value]
  let count = 0
  for (let depth = 0; level.length > 0; depth++) {
    const next: unknown[] = []
    count += level.length
    if (count > maxValues) refuse(`more than ${maxValues} values`)
    for (const item of level) {
      if (typeof item === 'string') assertText(item)
      else if (typeof item === 'object' && item !== null) {
        if (depth === maxDepth) throw new AppError('TOO_DEEP')
        collect(item, next)
      }
    }
    level = next
  }
}

function collect(item: object, into: unknown[]): void {
  if (Array.isArray(item)) {
    for (const element of item) into.push(element)
    return
  }
  // A socket's payload may hold binary data; no schema accepts any.
  if (ArrayBuffer.isView(item) || item instanceof ArrayBuffer) refuse('binary data')
  for (const [key, value] of Object.entries(item)) {
    assertText(key)
    const reachesPrototype =
      key === '__proto__' ||
      (key === 'constructor' &&
        typeof value === 'object' &&
        value !== null &&
        Object.hasOwn(value, 'prototype'))
    if (reachesPrototype) refuse(`a field named ${key}`)
    into.push(value)
  }
}

function refuse(what: string): never {
  throw new AppError('VALIDATION_FAILED', { message: `The request must not hold ${what}.` })
}

function assertText(text: string): void {
  if (text.includes('\0') || /\p{Surrogate}/u.test(text)) throw new AppError('BAD_TEXT')
}
