import { Stryker } from '@stryker-mutator/core'

/*
 * Mutation testing: changes a source file in every way that Stryker knows, and tells which changes
 * no test notices. `npm run mutate -- src/follow/follow.ts`, or all files below, one by one.
 */

/** The files that must never be wrong, each with the tests that must notice when it is. */
const testsOf: Readonly<Record<string, readonly string[]>> = {
  'src/reply/reply-state.ts': ['reply/transitions'],
  'src/stores/sqlite/messages.ts': ['stores/sqlite'],
  'src/engine/leases.ts': ['engine/lease-renewal'],
  'src/engine/takeover.ts': ['engine/takeover-passes'],
  'src/queue/fair-queue.ts': ['queue/fair-queue', 'queue/fair-queue-shared'],
  'src/queue/fair-order.ts': ['queue/fair-order'],
  'src/queue/forecast.ts': ['queue/forecast'],
  'src/follow/follow.ts': ['follow/follow'],
  'src/http/trace-context.ts': ['http/trace-context'],
  'web/client/reply-text.ts': ['web/client/reply-text'],
  'src/auth/tokens.ts': ['auth/token-pairs'],
  'src/auth/sessions.ts': ['auth/sessions', 'routes/auth'],
  'src/auth/live-sessions.ts': ['auth/live-sessions'],
  'src/cache/keys.ts': ['architecture', 'cache/keys'],
  'src/cache/read-through.ts': ['cache/read-through'],
  'src/prompt/context.ts': ['prompt/fit-context'],
}

/** A machine that is busy must not make a mutant that lives look like one that hangs. */
const slowMachine = { timeoutFactor: 4, timeoutMS: 20_000, dryRunTimeoutMinutes: 15 }
process.env.TAP_TIMEOUT ??= '300'

const asked = process.argv.slice(2)
const unknown = asked.filter((file) => !(file in testsOf))
if (unknown.length > 0) {
  console.error(
    `No tests are named for ${unknown.join(', ')}. Known: ${Object.keys(testsOf).join(', ')}`,
  )
  process.exit(2)
}

let survivors = 0
for (const file of asked.length > 0 ? asked : Object.keys(testsOf)) {
  const tests = (testsOf[file] ?? []).map((name) => `dist/test/${name}.test.js`)
  const results = await new Stryker({
    mutate: [file],
    testRunner: 'tap',
    tap: { testFiles: tests },
    buildCommand: 'node scripts/compile.js --tests',
    ignorePatterns: ['dist', '.tap', 'data'],
    concurrency: 1,
    reporters: ['clear-text', 'progress-append-only'],
    clearTextReporter: { logTests: false, reportTests: false },
    allowConsoleColors: false,
    ...slowMachine,
  }).runMutationTest()
  survivors += results.filter(
    ({ status }) => status === 'Survived' || status === 'NoCoverage',
  ).length
}
console.log(`${survivors} changes that no test noticed`)
process.exit(survivors > 0 ? 1 : 0)
