/*
 * The stand-in as a process of its own: prints `{"url": …}` as a line on stdout when it listens.
 * Its reply is a function of the prompt (see stand-in-reply.ts); GET /calls tells what it was asked.
 *
 *   node dist/test/services/ollama-stand-in-process.js [--port N] [--models a:latest,b:latest]
 *     [--window N] [--closing-template]
 */
import { parseArgs } from 'node:util'
import { standInModel, startStandIn } from './ollama-stand-in.js'

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    models: { type: 'string', default: standInModel.name },
    window: { type: 'string' },
    'closing-template': { type: 'boolean', default: false },
  },
})

const standIn = await startStandIn({
  port: Number(values.port),
  models: values.models.split(',').map((name) => ({
    ...standInModel,
    name,
    continues: !values['closing-template'],
    loadedContextLength: values.window ? Number(values.window) : standInModel.loadedContextLength,
  })),
})
console.log(JSON.stringify({ url: standIn.url, pid: process.pid }))

// Exits after its parent, which may have been killed.
const parent = process.ppid
setInterval(() => {
  if (process.ppid !== parent) process.exit()
}, 1_000).unref()
