import { type Static, Type } from '@sinclair/typebox'
import { Model, StringEnum } from './common.js'

export const ServiceStatus = Model(
  'ServiceStatus',
  StringEnum(['ok', 'down'] as const, 'Whether a service answered within a second.'),
)
export type ServiceStatus = Static<typeof ServiceStatus>

const ServiceHealth = Model('ServiceHealth', Type.Object({ status: ServiceStatus }))

const HealthStatus = Model(
  'HealthStatus',
  StringEnum(
    ['ok', 'degraded', 'down', 'shutting-down'] as const,
    '`degraded`: requests are served, a service they can do without is away. Unknown values may come later.',
  ),
)

export const Health = Model(
  'Health',
  Type.Object({
    status: HealthStatus,
    services: Type.Object({ db: ServiceHealth, redis: ServiceHealth, ollama: ServiceHealth }),
  }),
)
export type Health = Static<typeof Health>

export const Liveness = Model('Liveness', Type.Object({ status: HealthStatus }))
export type Liveness = Static<typeof Liveness>
