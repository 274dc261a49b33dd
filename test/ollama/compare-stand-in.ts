import type { Test } from 'tap'
import { standInModel, startStandIn } from '../services/ollama-stand-in.js'

const realModel = 'smollm2:135m'

interface Probe {
  method?: 'GET' | 'POST'
  path: string
  /** What is sent, but for the model; or text. */
  body?: object | string
  model?: string
}

const hello = {
  messages: [{ role: 'user', content: 'Hello. len=30' }],
  options: { num_predict: 2 },
}

const probes: Probe[] = [
  { path: '/' },
  { path: '/nope' },
  { path: '/api/version' },
  { path: '/api/tags' },
  { path: '/api/tags', method: 'POST', body: {} },
  { path: '/api/chat' },
  { path: '/api/chat', body: hello },
  { path: '/api/chat', body: { messages: [] } },
  { path: '/api/chat', body: hello, model: 'nope' },
  { path: '/api/chat', body: hello, model: '' },
  { path: '/api/chat', body: { ...hello, think: true } },
  { path: '/api/chat', body: '{' },
  // The model is loaded by now.
  { path: '/api/ps' },
  { path: '/api/show', body: {} },
  { path: '/api/show', body: {}, model: 'nope' },
]

/** Compares what the stand-in answers with what the Ollama at `realUrl` does. */
export async function compareStandIn(t: Test, realUrl: string) {
  const model = { ...standInModel, capabilities: ['completion'] }
  const standIn = await startStandIn({ models: [model] })
  t.teardown(() => standIn.close())
  for (const probe of probes) {
    const name = `${probe.path} ${JSON.stringify(probe.body) ?? ''} ${probe.model ?? ''}`
    const ours = await ask(standIn.url, model.name, probe)
    const theirs = await ask(realUrl, realModel, probe)
    t.equal(ours.status, theirs.status, `${name}: the status`)
    t.equal(ours.type, theirs.type, `${name}: the content’s type`)
    t.same(missing(ours.answer, theirs.answer), [], `${name}: no field of its own`)
    if (theirs.status >= 400 && probe.body !== '{') t.same(ours.answer, theirs.answer, name)
  }
}

/** An answer: its JSON, of a stream the first line and the last; else its text. */
async function ask(url: string, ownModel: string, { path, method, body, model }: Probe) {
  const name = model ?? ownModel
  const sent = typeof body === 'object' ? JSON.stringify({ model: name, ...body }) : body
  const response = await fetch(url + path, {
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    ...(sent !== undefined && { body: sent }),
    signal: AbortSignal.timeout(120_000),
  })
  const text = (await response.text()).replaceAll(ownModel, 'MODEL')
  const type = response.headers.get('content-type')
  const lines = text.trim().split('\n')
  const answer: unknown = type?.includes('json')
    ? [lines[0], lines.at(-1)].map((line) => JSON.parse(line ?? ''))
    : text
  return { status: response.status, type, answer }
}

/** The paths in `ours` that `theirs` has not, or has of another type. */
function missing(ours: unknown, theirs: unknown, path = ''): string[] {
  if (typeof ours !== typeof theirs || Array.isArray(ours) !== Array.isArray(theirs)) return [path]
  if (typeof ours !== 'object' || ours === null || typeof theirs !== 'object') return []
  const fields: Readonly<Record<string, unknown>> = { ...theirs }
  // What is named for the architecture is compared under one name.
  return Object.entries(ours).flatMap(([key, value]) =>
    missing(value, fields[key] ?? fields[key.replace('standin.', 'llama.')], `${path}.${key}`),
  )
}
