import { AppError } from './errors.js'

const maxDepth = 32

const decoder = new TextDecoder('utf-8', { fatal: true })

/**
 * JSON from a request's bytes, as `assertPlainJson` lets it pass.
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
    // The parser's own message quotes the body, which may hold a password.
    throw new AppError('BAD_JSON')
  }
}

/**
 * Refuses what could be stored but not given back (NUL, lone surrogates), what would overflow a
 * stack, and keys that reach an object's prototype. Does not recurse itself.
 * @param value as a JSON parser made it.
 * @throws AppError BAD_TEXT, TOO_DEEP, VALIDATION_FAILED.
 */
export function assertPlainJson(value: unknown): void {
  let level = [value]
  for (let depth = 0; level.length > 0; depth++) {
    const next: unknown[] = []
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
  // A socket's payload may hold binary data, which no schema here wants.
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
