import { type Static, Type } from '@sinclair/typebox'
import { Model, StringEnum } from './common.js'

/** One enumeration for both, since Go's generator names the constants of all by their values alone. */
export const HealthStatus = Model(
  'HealthStatus',
  StringEnum(
    ['ok', 'degraded', 'down', 'shutting-down'] as const,
    'A service is `ok` when it answered within a second, else `down`. The server is also `degraded` while a ' +
      'service that it can do without is away, and `shutting-down`. Unknown values may come later.',
    'ok',
  ),
)
export type HealthStatus = Static<typeof HealthStatus>

const ServiceHealth = Model(
  'ServiceHealth',
  Type.Object(
    { status: HealthStatus },
    { description: 'Whether one service answers.', examples: [{ status: 'ok' }] },
  ),
)

const services = { db: { status: 'ok' }, redis: { status: 'ok' }, ollama: { status: 'ok' } }

export const Health = Model(
  'Health',
  Type.Object(
    {
      status: HealthStatus,
      services: Model(
        'ServicesHealth',
        Type.Object(
          { db: ServiceHealth, redis: ServiceHealth, ollama: ServiceHealth },
          { description: 'Each service by name.', examples: [services] },
        ),
      ),
    },
    {
      description: 'Whether the server is ready, and each service.',
      examples: [{ status: 'ok', services }],
    },
  ),
)
export type Health = Static<typeof Health>

export const Liveness = Model(
  'Liveness',
  Type.Object(
    { status: HealthStatus },
    { description: 'That the process runs.', examples: [{ status: 'ok' }] },
  ),
)
export type Liveness = Static<typeof Liveness>
