/**
 * Compiles the server into dist/ without checking types, and with `--tests` the tests too. A file whose
 * result has changed is replaced in one step, so servers that start at the same time load whole files.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { buildSync } from 'esbuild'

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

function compile(entryPoints) {
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

// test/bench is a package of its own, with packages that only it installs.
const sources = folders
  .flatMap((folder) => filesIn(root, folder, /(?<!\.d)\.ts$/))
  .filter((path) => !path.startsWith(join('test', 'bench')))
const outputs = compile(sources)

for (const { path, contents } of outputs) {
  if (read(path).equals(contents)) continue
  mkdirSync(dirname(path), { recursive: true })
  const temporary = `${path}.${process.pid}`
  writeFileSync(temporary, contents)
  renameSync(temporary, path)
}

// @fastify/autoload would load what a source that is gone has left.
const dist = join(root, 'dist')
const current = new Set(outputs.map(({ path }) => path))
for (const folder of folders) {
  for (const name of filesIn(dist, folder, /\.js(?:\.map)?$/)) {
    if (!current.has(join(dist, name))) rmSync(join(dist, name), { force: true })
  }
}
