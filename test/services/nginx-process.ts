import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Agent, fetch } from 'undici'
import { eventually } from './eventually.js'
import { freePort } from './free-port.js'

interface Teardown {
  teardown(end: () => unknown): unknown
}

const deploy = join(import.meta.dirname, '../../../deploy')

/** Set by test/services/services.sh, and then nginx must be there; else it may be. */
const nginx =
  process.env.TEST_NGINX ??
  [...(process.env.PATH ?? '').split(':'), '/usr/sbin']
    .map((folder) => join(folder, 'nginx'))
    .find((file) => existsSync(file))
/** Why tests of nginx cannot run; false where they can. */
export const withoutNginx = nginx === undefined && 'TEST_NGINX is not set, and no nginx is on PATH'

/** Replaces what a configuration must have: a shipped file that changed is noticed. */
function replaced(text: string, rows: readonly [shipped: string | RegExp, ours: string][]): string {
  return rows.reduce((site, [shipped, ours]) => {
    const changed = site.replaceAll(shipped, ours)
    if (changed === site) throw new Error(`the shipped configuration has no ${shipped}`)
    return changed
  }, text)
}

/**
 * The shipped configuration in a real nginx before servers that trust it, but for its addresses and
 * its certificate.
 * @param isTls whether it speaks TLS, as shipped: many clients of tests do not.
 */
export async function startNginx(t: Teardown, servers: readonly string[], isTls = false) {
  const folder = await mkdtemp(join(tmpdir(), 'chat-nginx-'))
  const [insecurePort, port] = [await freePort(), await freePort()]
  const pem = (name: string) => join(folder, `${name}.pem`)
  await promisify(execFile)('openssl', [
    ...'req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2'.split(' '),
    ...['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'],
    ...['-keyout', pem('privkey'), '-out', pem('fullchain')],
  ])
  const site = replaced(await readFile(join(deploy, 'nginx.conf'), 'utf8'), [
    ['listen 80;', `listen 127.0.0.1:${insecurePort};`],
    ['listen 443 ssl http2;', `listen 127.0.0.1:${port}${isTls ? ' ssl http2' : ''};`],
    ['/etc/nginx/tls/', `${folder}/`],
    ['/var/www/acme', `${folder}/acme`],
  ])
  const upstream = replaced(await readFile(join(deploy, 'nginx-upstream.conf'), 'utf8'), [
    [
      /(?: +server 127\.0\.0\.1:\d+ max_fails=0;\n)+/g,
      servers.map((url) => `server ${new URL(url).host} max_fails=0;\n`).join(''),
    ],
  ])
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  )
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr crit;
     events {}
     http { access_log off; ${folders.join(' ')}
     ${upstream}
     ${site} }`,
  )
  const child = spawn(
    nginx ?? 'nginx',
    ['-e', 'stderr', '-p', folder, '-c', join(folder, 'nginx.conf')],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGTERM')
    await exited
    await rm(folder, { recursive: true, force: true })
  })
  const ca = await readFile(pem('fullchain'))
  const url = `${isTls ? 'https' : 'http'}://127.0.0.1:${port}`
  const dispatcher = new Agent({ connect: { ca } })
  t.teardown(() => dispatcher.close())
  await eventually('nginx answers', async () => {
    if (child.exitCode !== null) throw new Error('nginx ended')
    const answer = await fetch(`${url}/health/live`, { dispatcher }).catch(() => undefined)
    await answer?.body?.cancel()
    return answer !== undefined
  })
  return { url, insecureUrl: `http://127.0.0.1:${insecurePort}`, ca }
}
