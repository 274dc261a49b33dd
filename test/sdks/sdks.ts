import { join } from 'node:path'

/** Where an SDK is made and used. */
export interface Place {
  /** The program of this folder and what is generated for it, removed afterwards. */
  work: string
  /** What was installed for this SDK, kept between runs. */
  tools: string
  /** The API's document, as the server serves it. */
  document: string
  /** The server's address. */
  url: string
  /** The checkout. */
  root: string
  isShort: boolean
}

export interface Command {
  command: string
  args: string[]
  env?: Record<string, string>
  /** Where it runs, in `work` or `tools`. */
  cwd?: string
}

/** What the document is given to. */
export interface Sdk {
  /** Its folder here. */
  name: string
  /** What a reader of the table knows it as. */
  generator: string
  /** Settings of the server that it uses, besides those of every one. */
  settings: Record<string, string>
  /** Whether `--short` has it. */
  isShort: boolean
  /** The files that pin what `install` installs. */
  pins: string[]
  /** Installs the generator and what its SDK needs, into `tools`. */
  install(place: Place): Command[]
  generate(place: Place): Command[]
  /** The SDK by its generator's defaults, and the program strictly. */
  compile(place: Place): Command[]
  /** Uses a server, whose address is in API_URL; API_TOKEN is one of the examples' account. */
  use(place: Place): Command[]
}

/** A tool's own warnings, which it also has about the smallest document. */
export const ownWarnings = [
  /OpenAPI 3\.1 support is still in beta/,
  /Node\.js 20 support is ending/,
  /ModelUtils - Failed to get the schema name: null/,
]

/** A reply takes about a second, long enough to be left or stopped; an account keeps two chats. */
const conversation = { ELIZA_PACE_MS: '20', RATE_LIMIT_USER_CHATS: '2' }

const bin = (tools: string, name: string) => join(tools, 'node_modules/.bin', name)

const installNode = ({ tools }: Place): Command[] => [
  { command: 'npm', args: ['ci', '--ignore-scripts'], cwd: tools },
]
/** Both are found where the program is. */
const linkModules = ({ tools, document }: Place): Command[] => [
  { command: 'ln', args: ['-s', join(tools, 'node_modules'), 'node_modules'] },
  { command: 'cp', args: [document, 'openapi.json'] },
]

/** An SDK in TypeScript: checked by tsc, bundled by the checkout's esbuild, run by Node. */
function typescript(
  name: string,
  generator: string,
  generate: (place: Place) => { command: string; args: string[] },
): Sdk {
  return {
    name,
    generator,
    settings: conversation,
    isShort: true,
    pins: ['package.json', 'package-lock.json'],
    install: installNode,
    generate: (place) => [...linkModules(place), generate(place)],
    compile: ({ tools, root }) => [
      { command: bin(tools, 'tsc'), args: [] },
      {
        command: join(root, 'node_modules/.bin/esbuild'),
        args: [
          'talk.ts',
          '--bundle',
          '--platform=node',
          '--format=esm',
          '--outfile=talk.mjs',
          '--log-level=warning',
        ],
      },
    ],
    use: () => [{ command: process.execPath, args: ['talk.mjs'] }],
  }
}

/** A virtual environment with what requirements.txt pins; Debian's Python makes one without pip alone. */
const installPython = ({ tools }: Place): Command[] => [
  { command: 'python3', args: ['-m', 'venv', '--without-pip', 'python'], cwd: tools },
  {
    command: 'python3',
    args: [
      ...['-m', 'pip', '--python', 'python/bin/python', 'install', '--no-input', '--quiet'],
      ...['--disable-pip-version-check', '-r', 'requirements.txt'],
    ],
    cwd: tools,
  },
]
const python = ({ tools }: Place) => join(tools, 'python/bin/python')
/** The program alone is strict: the SDK is checked with its generator's settings. */
const checkPython = (place: Place, sdk: string): Command => ({
  command: python(place),
  args: ['-m', 'mypy', '--strict', '--follow-imports=silent', 'talk.py'],
  env: { MYPYPATH: sdk },
})
const usePython = (place: Place, sdk: string): Command => ({
  command: python(place),
  args: ['talk.py'],
  env: { PYTHONPATH: sdk },
})

const openapiGenerator = 'org.openapitools:openapi-generator-cli:7.25.0'

const installJar = ({ tools }: Place): Command => ({
  command: 'mvn',
  args: [
    ...['-B', '-q', 'dependency:copy', `-Dartifact=${openapiGenerator}`],
    ...['-Dmdep.stripVersion=true', `-DoutputDirectory=${tools}`],
  ],
  cwd: tools,
})
const runJar = ({ tools, document }: Place, args: string[]): Command => ({
  command: 'java',
  args: [
    ...['-jar', join(tools, 'openapi-generator-cli.jar'), 'generate'],
    ...['-i', document, '-o', 'sdk', ...args],
  ],
})

export const sdks: readonly Sdk[] = [
  {
    name: 'linters',
    generator: 'redocly 2.77, spectral 6.16, @readme/openapi-parser 9.0',
    settings: {},
    isShort: true,
    pins: ['package.json', 'package-lock.json'],
    install: installNode,
    generate: (place) => [
      ...linkModules(place),
      {
        command: bin(place.tools, 'redocly'),
        args: ['lint', '--extends=recommended', 'openapi.json'],
        env: { REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' },
      },
      {
        command: bin(place.tools, 'spectral'),
        args: ['lint', '--fail-severity=hint', 'openapi.json'],
      },
      { command: process.execPath, args: ['validate.js'] },
    ],
    compile: () => [],
    use: () => [],
  },
  {
    name: 'schemathesis',
    generator: 'schemathesis 4.32',
    settings: { ELIZA_PACE_MS: '0', RATE_LIMIT_USER_REQUESTS_PER_MINUTE: '0' },
    isShort: true,
    pins: ['requirements.txt'],
    install: installPython,
    generate: () => [],
    compile: () => [],
    use: ({ tools, document, url, isShort }) => [
      {
        command: join(tools, 'python/bin/schemathesis'),
        args: [
          ...['run', document, '--url', url],
          ...(isShort ? ['--max-examples=15', '--seed=1'] : ['--max-examples=200']),
        ],
      },
    ],
  },
  typescript('hey-api', '@hey-api/openapi-ts 0.95', ({ tools }) => ({
    command: bin(tools, 'openapi-ts'),
    args: ['--input', 'openapi.json', '--output', 'generated', '--no-log-file'],
  })),
  typescript('openapi-fetch', 'openapi-typescript 7.13 + openapi-fetch 0.17', ({ tools }) => ({
    command: bin(tools, 'openapi-typescript'),
    args: ['openapi.json', '--output', 'generated/chat.d.ts'],
  })),
  typescript('orval', 'orval 7.12', ({ tools }) => ({
    command: bin(tools, 'orval'),
    args: [],
  })),
  {
    name: 'openapi-python-client',
    generator: 'openapi-python-client 0.29',
    settings: conversation,
    isShort: true,
    pins: ['requirements.txt'],
    install: installPython,
    generate: (place) => [
      {
        command: join(place.tools, 'python/bin/openapi-python-client'),
        args: ['generate', '--path', place.document, '--output-path', 'sdk', '--fail-on-warning'],
        // It formats with ruff, which it looks for there.
        env: { PATH: `${join(place.tools, 'python/bin')}:${process.env.PATH}` },
      },
    ],
    compile: (place) => [
      { command: python(place), args: ['-m', 'mypy', 'durable_chat_client'], cwd: 'sdk' },
      checkPython(place, 'sdk'),
    ],
    use: (place) => [usePython(place, 'sdk')],
  },
  {
    name: 'openapi-generator-python',
    generator: 'openapi-generator 7.25, python',
    settings: conversation,
    isShort: false,
    pins: ['requirements.txt'],
    install: (place) => [...installPython(place), installJar(place)],
    generate: (place) => [
      runJar(place, ['-g', 'python', '--additional-properties=packageName=durable_chat']),
    ],
    compile: (place) => [
      // Its settings for mypy also name the folder of tests that somebody may add.
      { command: 'mkdir', args: ['sdk/tests'] },
      { command: 'cp', args: ['talk.py', 'sdk/tests/test_talk.py'] },
      { command: python(place), args: ['-m', 'mypy'], cwd: 'sdk' },
      checkPython(place, 'sdk'),
    ],
    use: (place) => [usePython(place, 'sdk')],
  },
  {
    name: 'openapi-generator-go',
    generator: 'openapi-generator 7.25, go',
    settings: conversation,
    isShort: true,
    pins: [],
    install: (place) => [installJar(place)],
    generate: (place) => [
      runJar(place, ['-g', 'go', '--additional-properties=packageName=chat,withGoMod=true']),
    ],
    compile: () => [
      { command: 'go', args: ['build', './...'], cwd: 'sdk' },
      { command: 'go', args: ['vet', '.'] },
      { command: 'go', args: ['build', '-o', 'talk', '.'] },
    ],
    use: () => [{ command: './talk', args: [] }],
  },
  {
    name: 'openapi-generator-java',
    generator: 'openapi-generator 7.25, java (java.net.http)',
    settings: conversation,
    isShort: false,
    pins: [],
    install: (place) => [installJar(place)],
    generate: (place) => [
      runJar(place, [
        ...['-g', 'java', '--library', 'native'],
        `--additional-properties=${[
          'groupId=chat.durable',
          'artifactId=durable-chat',
          'invokerPackage=chat.durable.client',
          'apiPackage=chat.durable.client.api',
          'modelPackage=chat.durable.client.model',
        ].join(',')}`,
      ]),
    ],
    compile: () => [
      { command: 'mvn', args: ['-B', '-q', 'package', '-DskipTests'], cwd: 'sdk' },
      {
        command: 'javac',
        args: ['-Xlint:all', '-Werror', '-cp', classPath, '-d', 'out', 'Talk.java'],
      },
    ],
    use: () => [{ command: 'java', args: ['-cp', `out:${classPath}`, 'Talk'] }],
  },
]

/** Maven leaves the SDK and what it needs there. */
const classPath = 'sdk/target/classes:sdk/target/lib/*'
