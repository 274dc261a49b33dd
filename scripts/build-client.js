/**
 * Builds the package of web/client/ in dist/durable-chat-client, or the folder given: one module with what
 * it uses but socket.io-client, its declarations, and the licences of what is bundled. The types of the
 * API must have been written before.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { buildSync } from 'esbuild'

const root = join(import.meta.dirname, '..')
const source = join(root, 'web/client')
const target = resolve(process.argv[2] ?? join(root, 'dist/durable-chat-client'))
const dist = join(target, 'dist')

rmSync(dist, { recursive: true, force: true })
mkdirSync(dist, { recursive: true })
const { metafile } = buildSync({
  absWorkingDir: root,
  entryPoints: ['web/client/index.ts'],
  outfile: join(dist, 'index.js'),
  bundle: true,
  format: 'esm',
  platform: 'neutral',
  mainFields: ['module', 'main'],
  target: 'es2022',
  external: ['socket.io-client'],
  metafile: true,
})

const tsc = join(root, 'node_modules/typescript/bin/tsc')
const { status } = spawnSync(process.execPath, [tsc, '-p', source, '--outDir', dist], {
  stdio: 'inherit',
})
if (status !== 0) process.exit(1)
copyFileSync(join(source, 'openapi.d.ts'), join(dist, 'openapi.d.ts'))

for (const name of ['package.json', 'README.md']) {
  copyFileSync(join(source, name), join(target, name))
}
copyFileSync(join(root, 'LICENSE'), join(target, 'LICENSE'))
const bundled = new Set(
  Object.keys(metafile.inputs).flatMap(
    (path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? [],
  ),
)
const licences = [...bundled].map(
  (name) => `${name}\n\n${readFileSync(join(root, 'node_modules', name, 'LICENSE'), 'utf8')}`,
)
writeFileSync(join(dist, 'THIRD-PARTY-LICENSES'), licences.join('\n\n'))
