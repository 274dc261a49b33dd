import { readdir, readFile } from 'node:fs/promises'
import fp from 'fastify-plugin'
import { Marked } from 'marked'

const folder = new URL('../../docs/', import.meta.url)
const read = (name: string) => readFile(new URL(name, folder), 'utf8')

/** The pages, by their files in docs/; a link between the files becomes one between the pages. */
const pages = new Map([
  ['protocol.md', '/docs/protocol'],
  ['vectors/README.md', '/docs/vectors/'],
])

/** The id that GitHub gives a heading, so that one link serves both. */
const slug = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} -]/gu, '')
    .replaceAll(' ', '-')

/** Where a link of a file leads on this server. */
function target(href: string, file: string): string {
  if (href.startsWith('#')) return href
  const path = new URL(href, `http://docs/${file}`).pathname.slice(1)
  return pages.get(path) ?? `/docs/${path}`
}

const style = `
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
pre, code { font-family: ui-monospace, monospace; font-size: .875em }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .25rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { border: 1px solid #8886; padding: .25rem .5rem; text-align: left; vertical-align: top }
`

const pageOf = (title: string, body: string) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>${style}</style>
</head>
<body>
<p><a href="/docs">REST</a> · <a href="/docs/protocol">Protocol</a> · <a href="/openapi.json">openapi.json</a> · <a href="/asyncapi.json">asyncapi.json</a></p>
${body}
</body>
</html>
`

/** Renders a file of docs/, which is trusted as the code is. */
async function render(file: string): Promise<string> {
  const markdown = await read(file)
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth, text }) {
        return `<h${depth} id="${slug(text)}">${this.parser.parseInline(tokens)}</h${depth}>\n`
      },
      link({ href, tokens }) {
        return `<a href="${target(href, file)}">${this.parser.parseInline(tokens)}</a>`
      },
    },
  })
  const title = /^# (.+)$/m.exec(markdown)?.[1] ?? file
  return pageOf(title, await marked.parse(markdown))
}

/** Serves docs/protocol.md as a page, with its test vectors, beside the API's description. */
export default fp(
  async (fastify) => {
    if (!fastify.config.DOCS) return
    for (const [file, path] of pages) {
      const html = await render(file)
      fastify.get(path, { schema: { hide: true } }, (_request, reply) => {
        reply.type('text/html; charset=utf-8').send(html)
      })
    }
    const names = await readdir(new URL('vectors/', folder))
    for (const name of names.filter((name) => name.endsWith('.json'))) {
      const vectors = await read(`vectors/${name}`)
      fastify.get(`/docs/vectors/${name}`, { schema: { hide: true } }, (_request, reply) => {
        reply.type('application/json; charset=utf-8').send(vectors)
      })
    }
  },
  { name: 'protocol-page', dependencies: ['observability', 'security'] },
)
