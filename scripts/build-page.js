/**
 * Builds web/page/ into dist/page/: files whose names are hashes of their content, compressed ahead, and the
 * HTML that names them. `npm start` does it too, so it is skipped while nothing changed.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { builtMs, changedMs, replaceFile } from './outputs.js'

const root = join(import.meta.dirname, '..')
const source = join(root, 'web/page')
const output = join(root, 'dist/page')

function filesIn(folder) {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) =>
    join(folder, name),
  )
}

/** Whether a source, or a package, was written since the page was built. */
function isStale() {
  const inputs = [
    ...filesIn(source),
    ...filesIn(join(root, 'web/client')).filter((path) => /(?<!\.d)\.ts$/.test(path)),
    join(root, 'node_modules/.package-lock.json'),
    import.meta.filename,
  ]
  return inputs.some((path) => changedMs(path) >= builtMs(join(output, 'index.html')))
}

function writeCompressed(path, contents, began) {
  replaceFile(`${path}.br`, brotliCompressSync(contents))
  replaceFile(`${path}.gz`, gzipSync(contents, { level: 9 }))
  replaceFile(path, contents, began)
}

/** The licences of the packages that are bundled. */
function licences(inputs) {
  const packages = new Set(
    inputs.flatMap((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []),
  )
  return [...packages].sort().map((folder) => {
    const path = join(root, folder)
    const { name, version } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'))
    const file = readdirSync(path).find((entry) => /^licen[cs]e/i.test(entry))
    return `${name} ${version}\n\n${file ? readFileSync(join(path, file), 'utf8').trim() : ''}\n`
  })
}

async function build() {
  const { buildSync } = await import('esbuild')
  // The HTML bears this time: a source that is written from here on is built again.
  const began = new Date()
  const { outputFiles, metafile } = buildSync({
    absWorkingDir: root,
    entryPoints: ['web/page/main.tsx', 'web/page/icon.svg'],
    outdir: 'dist/page',
    entryNames: 'assets/[name]-[hash]',
    chunkNames: 'assets/[name]-[hash]',
    assetNames: 'assets/[name]-[hash]',
    bundle: true,
    splitting: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    // The options here are all that it needs of one.
    tsconfigRaw: {},
    jsx: 'automatic',
    jsxImportSource: 'preact',
    loader: { '.svg': 'copy' },
    legalComments: 'none',
    define: { 'process.env.NODE_ENV': '"production"' },
    metafile: true,
    write: false,
  })
  for (const { path, contents } of outputFiles) writeCompressed(path, contents)
  const licence = Buffer.from(licences(Object.keys(metafile.inputs)).join('\n'))
  const licenceName = `licences-${createHash('sha256').update(licence).digest('hex').slice(0, 8)}.txt`
  writeCompressed(join(output, 'assets', licenceName), licence)

  const address = (pattern) => {
    const built = outputFiles.find(({ path }) => pattern.test(basename(path)))
    return `/assets/${basename(built?.path ?? '')}`
  }
  const html = readFileSync(join(source, 'index.html'), 'utf8')
    .replace('main.tsx', address(/^main-.*\.js$/))
    .replace('main.css', address(/^main-.*\.css$/))
    .replace('chunk.js', address(/^chunk-.*\.js$/))
    .replace('icon.svg', address(/^icon-.*\.svg$/))
    .replace('licences.txt', `/assets/${licenceName}`)
  writeCompressed(join(output, 'index.html'), Buffer.from(html), began)

  const current = new Set([licenceName, ...outputFiles.map(({ path }) => basename(path))])
  for (const name of readdirSync(join(output, 'assets'))) {
    // A file that another process is writing ends with its id.
    if (/\.\d+$/.test(name)) continue
    if (!current.has(name.replace(/\.(?:br|gz)$/, ''))) {
      rmSync(join(output, 'assets', name), { force: true })
    }
  }
}

if (isStale()) await build()
