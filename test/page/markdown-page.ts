import { join } from 'node:path'
import { buildSync } from 'esbuild'
import type { Page } from 'playwright-core'
import { launch } from './browser.js'

/**
 * A page that has nothing but the page's Markdown, as `harness`.
 * @param isColoured whether code takes its colours, which come when they come: without them there is one
 *   rendering of a text.
 */
export async function openHarness(
  t: Parameters<typeof launch>[0],
  isColoured: boolean,
): Promise<Page> {
  const [script] = buildSync({
    absWorkingDir: join(import.meta.dirname, '../../..'),
    entryPoints: ['test/page/markdown-harness.ts'],
    bundle: true,
    format: 'iife',
    target: 'es2022',
    tsconfigRaw: {},
    jsx: 'automatic',
    jsxImportSource: 'preact',
    external: isColoured ? [] : ['./highlight.js'],
    write: false,
  }).outputFiles
  const page = await (await launch(t)).newPage()
  await page.addScriptTag({ content: script?.text ?? '' })
  return page
}
