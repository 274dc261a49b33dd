import type { IncomingMessage } from 'node:http'
import { isRecord } from '../model-errors.js'

const longestBody = 16 * 1024 * 1024

/** An error that the embedded server answers as Ollama does: `{error: message}`. */
export class HttpFault extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

/** As Ollama says it of a model that it does not have. */
export function modelNotFound(name: unknown): HttpFault {
  if (typeof name !== 'string' || name === '') return new HttpFault(400, 'model is required')
  return new HttpFault(404, `model ${JSON.stringify(name)} not found, try pulling it first`)
}

/** @throws HttpFault 400 for what is not a JSON object, 413 over 16 MiB. */
export async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += chunk.length
    if (bytes > longestBody) throw new HttpFault(413, 'request body too large')
    chunks.push(chunk)
  }
  if (bytes === 0) throw new HttpFault(400, 'missing request body')
  let body: unknown
  try {
    body = JSON.parse(Buffer.concat(chunks).toString())
  } catch (error) {
    throw new HttpFault(400, `invalid JSON: ${error instanceof Error ? error.message : error}`)
  }
  if (!isRecord(body)) throw new HttpFault(400, 'json: cannot unmarshal the body into an object')
  return body
}
