/**
 * Compiles what changed of the server and the page into dist/ without checking types, and with `--tests` of
 * the tests too. A file is replaced in one step, so servers that start at the same time load whole files.
 */
import { readdirSync, readFileSync, rmSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { builtMs, changedMs, replaceFile } from './outputs.js'

const root = join(import.meta.dirname, '..')
const folders = ['src', 'plugins', 'routes', 'schemas', 'web']
if (process.argv.includes('--tests')) folders.push('test')

/** The files below a folder whose names match, as paths from `base`; none where there is no folder. */
function filesIn(base, folder, pattern) {
  try {
    return readdirSync(join(base, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => pattern.test(name))
      .map((name) => join(folder, name))
  } catch (error) {
    if (error.code === 'ENOENT') return []
    throw error
  }
}

function read(path) {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}

/** Whether a source was written since it was compiled, by this script as it is now. */
function isStale(source) {
  const inputs = [join(root, source), import.meta.filename]
  return inputs.some((path) => changedMs(path) >= builtMs(join(root, outputOf(source))))
}

const outputOf = (source) => join('dist', source.replace(/\.ts$/, '.js'))

async function compile(entryPoints) {
  if (entryPoints.length === 0) return []
  const { buildSync } = await import('esbuild')
  try {
    return buildSync({
      absWorkingDir: root,
      entryPoints,
      outbase: '.',
      outdir: 'dist',
      format: 'esm',
      platform: 'node',
      target: 'node20',
      sourcemap: true,
      sourcesContent: false,
      write: false,
    }).outputFiles
  } catch {
    // esbuild has printed what is wrong and where.
    process.exit(1)
  }
}

// test/bench and the folders of test/sdks are packages of their own, with what only they install; the
// page is bundled.
const apart = /^(?:test.bench|test.sdks.[^/\\]+|web.page)[/\\]/
const sources = folders
  .flatMap((folder) => filesIn(root, folder, /(?<!\.d)\.ts$/))
  .filter((path) => !apart.test(path))
// Outputs bear this time: a source that is written from here on is compiled again.
const began = new Date()
const outputs = await compile(sources.filter(isStale))

for (const { path, contents } of outputs) {
  if (read(path).equals(contents)) utimesSync(path, began, began)
  else replaceFile(path, contents, began)
}

// @fastify/autoload would load what a source that is gone has left.
const dist = join(root, 'dist')
const current = new Set(sources.map(outputOf).flatMap((path) => [path, `${path}.map`]))
for (const folder of folders) {
  for (const name of filesIn(dist, folder, /\.js(?:\.map)?$/)) {
    if (!current.has(join('dist', name))) rmSync(join(dist, name), { force: true })
  }
}

await import('./build-page.js')
