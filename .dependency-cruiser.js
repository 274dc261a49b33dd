/** What each folder may import; `npm run check` holds it. docs/architecture.md says why. */

/** The folders of src/ from the top down: each imports those below it alone. */
const layers = [
  'chats',
  'engine',
  'follow',
  'sockets',
  'cluster',
  'reply',
  'queue',
  'prompt',
  '(?:auth|ollama|stores|cache|http)',
]

const above = (layer) => layers.slice(0, layers.indexOf(layer)).join('|')

const forbidden = [
  { name: 'no-circles', from: {}, to: { circular: true } },
  {
    name: 'schemas-import-typebox-alone',
    from: { path: '^schemas/' },
    to: { pathNot: '^(?:schemas/|node_modules/@sinclair/typebox/)' },
  },
  {
    name: 'src-knows-no-fastify',
    from: { path: '^src/', pathNot: '^src/(?:app|server)\\.ts$' },
    to: {
      path: '^(?:plugins|routes|node_modules/(?:@?fastify|fastify-[^/]+)|src/(?:app|server)\\.ts)',
    },
  },
  ...layers.slice(1).map((layer) => ({
    name: 'src-imports-downwards',
    from: { path: `^src/${layer}/` },
    to: { path: `^src/(?:${above(layer)})/` },
  })),
  {
    name: 'plugins-meet-through-decorators',
    from: { path: '^plugins/' },
    to: { path: '^(?:plugins|routes|src/(?:app|server)\\.ts)' },
  },
  {
    name: 'the-client-is-a-package-of-its-own',
    from: { path: '^web/client/' },
    to: {
      pathNot:
        '^(?:web/client|node_modules/(?:eventsource-parser|openapi-fetch|socket.io-client))/',
    },
  },
  {
    name: 'the-page-is-built-on-the-client-alone',
    from: { path: '^web/page/' },
    to: {
      pathNot:
        '^(?:web/page/|web/client/index\\.ts$|node_modules/(?:@preact/signals|highlight\\.js|lowlight|marked|preact)/)',
    },
  },
  {
    name: 'routes-reach-all-else-through-fastify',
    from: { path: '^routes/' },
    to: { path: '^(?:src/(?!errors\\.ts)|plugins|routes)' },
  },
]

export default {
  forbidden: forbidden.map((rule) => ({ ...rule, severity: 'error' })),
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
  },
}
