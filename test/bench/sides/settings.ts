import { createSecretKey } from 'node:crypto'

const { PORT, OLLAMA_API_URL, DATA_DIR, JWT_SECRET } = process.env

/** What the benchmark tells a side, by the same names that the product's settings have. */
export const settings = {
  port: Number(PORT),
  host: '127.0.0.1',
  ollama: OLLAMA_API_URL ?? '',
  dataDir: DATA_DIR ?? '.',
  /** A KeyObject: jsonwebtoken makes one of a string at every verification. */
  key: createSecretKey(Buffer.from(JWT_SECRET ?? '')),
}

/** What all sides ask of a token; the product's server made it. */
export const rules = { algorithms: ['HS256' as const], issuer: 'chat', audience: 'chat' }
