/**
 * Three servers behind nginx: `pm2 start deploy/ecosystem.config.cjs`, and to restart them one after the
 * other, without an interruption, `pm2 reload chat --parallel 1`. Their settings are in `.env`.
 */
const { join } = require('node:path')

/** Those of deploy/nginx-upstream.conf. */
const ports = [3001, 3002, 3003]

module.exports = {
  apps: ports.map((port) => ({
    name: `chat-${port}`,
    namespace: 'chat',
    cwd: join(__dirname, '..'),
    script: 'dist/src/server.js',
    // PM2's cluster would spread one client's polling over all processes.
    exec_mode: 'fork',
    env: { NODE_ENV: 'production', PORT: port },
    // The server says `ready` when it listens; longer than START_TIMEOUT_MS.
    wait_ready: true,
    listen_timeout: 20_000,
    // Longer than SHUTDOWN_GRACE_MS.
    kill_timeout: 15_000,
    exp_backoff_restart_delay: 100,
    combine_logs: true,
  })),
}
