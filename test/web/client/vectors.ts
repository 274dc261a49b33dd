import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Static, type TProperties, Type } from '@sinclair/typebox'
import { Ajv } from 'ajv'
import { models } from '../../../schemas/common.js'
import { ActiveReply, JoinChat } from '../../../schemas/events.js'
import { MessageStatus } from '../../../schemas/messages.js'

const folder = join(import.meta.dirname, '../../../../docs/vectors')

const Exact = <P extends TProperties>(properties: P) =>
  Type.Object(properties, { additionalProperties: false })
const Step = <const N extends string, P extends TProperties>(name: N, fields: P) =>
  Exact({ step: Type.Literal(name), ...fields })

/** What the server has of a reply when it answers; the client cannot see it. */
const ServerReply = Exact({
  messageId: Type.String(),
  status: MessageStatus,
  epoch: Type.Integer(),
  epochStart: Type.Integer(),
  text: Type.String(),
  thinking: Type.Optional(Type.String()),
  position: Type.Optional(Type.Integer()),
})
export type ServerReply = Static<typeof ServerReply>

const JoinAnswer = Type.Union([
  Exact({ ok: Type.Literal(true), active: Type.Array(ActiveReply) }),
  Exact({
    ok: Type.Literal(false),
    error: Exact({ code: Type.String(), message: Type.String(), retryable: Type.Boolean() }),
  }),
])

const VectorStep = Type.Union([
  Step('connect', {}),
  Step('disconnect', {}),
  Step('join', { payload: JoinChat }),
  Step('ack', { answer: JoinAnswer, server: Type.Optional(Type.Array(ServerReply)) }),
  Step('request', { lastEventId: Type.Union([Type.String(), Type.Null()]) }),
  Step('response', { status: Type.Integer(), server: Type.Optional(ServerReply) }),
  Step('event', {
    event: Type.String(),
    id: Type.Optional(Type.String()),
    payload: Type.Record(Type.String(), Type.Unknown()),
  }),
  Step('expect', {
    messageId: Type.String(),
    text: Type.String(),
    thinking: Type.String(),
    status: Type.String(),
    position: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
  }),
  Step('refused', { code: Type.String() }),
])
type VectorStep = Static<typeof VectorStep>
export type StepOf<N extends VectorStep['step']> = Extract<VectorStep, { step: N }>

const Vector = Exact({
  name: Type.String(),
  why: Type.Optional(Type.String()),
  transport: Type.Union([Type.Literal('socket'), Type.Literal('sse')]),
  chatId: Type.String(),
  messageId: Type.String(),
  steps: Type.Array(VectorStep),
})
export type Vector = Static<typeof Vector>

const VectorFile = Exact({ description: Type.String(), vectors: Type.Array(Vector) })

const ajv = new Ajv({ schemas: [...models.values()], formats: { 'date-time': true } })
const isVectorFile = ajv.compile<Static<typeof VectorFile>>(VectorFile)

/** A file of docs/vectors. @throws when it does not follow its format. */
function readVectors(name: string): Vector[] {
  const file: unknown = JSON.parse(readFileSync(join(folder, name), 'utf8'))
  if (!isVectorFile(file)) throw new Error(`${name}: ${ajv.errorsText(isVectorFile.errors)}`)
  return file.vectors
}

/** Every vector of docs/vectors, by the file that it is in. */
export const vectorFiles = readdirSync(folder)
  .filter((name) => name.endsWith('.json'))
  .map((name) => ({ name, vectors: readVectors(name) }))

const modelOf: Readonly<Record<string, string>> = {
  message: 'Message',
  'message-start': 'MessageStart',
  'message-chunk': 'MessageChunk',
}

/** What of an event's payload does not follow its schema; the status may be one that is not known yet. */
export function payloadFaults({ event, payload }: StepOf<'event'>): string {
  const model = modelOf[event]
  const known = payload.status === 'expired' ? { ...payload, status: 'complete' } : payload
  return model === undefined || ajv.validate(model, known) ? '' : ajv.errorsText()
}
