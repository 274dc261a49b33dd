/**
 * Writes web/client/openapi.d.ts: the types of the OpenAPI document, and of the socket's events, that the
 * compiled server in dist/ has.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import openapiTS, { astToString } from 'openapi-typescript'
import { models } from '../dist/schemas/common.js'
import { clientEvents, serverEvents } from '../dist/schemas/events.js'
import { createApp } from '../dist/src/app.js'
import { parseConfig } from '../dist/src/config.js'
import { componentOf } from '../dist/src/http/components.js'

const output = join(import.meta.dirname, '../web/client/openapi.d.ts')

/** The document as a server without settings serves it. */
async function openApiDocument() {
  const dataDir = mkdtempSync(join(tmpdir(), 'chat-client-types-'))
  const app = createApp(parseConfig({ NODE_ENV: 'test', DATA_DIR: dataDir }), { logger: false })
  try {
    await app.ready()
    return (await app.inject('/openapi.json')).json()
  } finally {
    await app.close()
    rmSync(dataDir, { recursive: true, force: true })
  }
}

/** An object whose fields are events. */
const table = (events) => ({
  type: 'object',
  properties: Object.fromEntries(
    Object.entries(events).map(([name, schema]) => [name, componentOf(schema)]),
  ),
  required: Object.keys(events),
})

const part = (name) =>
  Object.fromEntries(Object.entries(clientEvents).map(([event, parts]) => [event, parts[name]]))

const document = await openApiDocument()
document.components.schemas = {
  ...Object.fromEntries([...models].map(([name, schema]) => [name, componentOf(schema)])),
  ...document.components.schemas,
  ServerPayloads: table(serverEvents),
  ClientPayloads: table(part('payload')),
  ClientAnswers: table(part('answer')),
}

const types = astToString(await openapiTS(document, { alphabetize: true }))
const header = '/** Written by scripts/client-types.js; do not edit. */\n\n'
let present = ''
try {
  present = readFileSync(output, 'utf8')
} catch {}
if (present !== header + types) writeFileSync(output, header + types)
