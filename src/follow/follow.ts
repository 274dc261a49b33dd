import type { ServerEvents } from '../../schemas/events.js'
import type { Message } from '../../schemas/messages.js'
import type { QueuePosition } from '../queue/fair-order.js'
import { sliceOf } from '../reply/growing-text.js'
import { hasEnded, type LiveReply } from '../reply/live-reply.js'
import { presentMessage, presentStart } from '../reply/present.js'
import type { MessageRow } from '../stores/store.js'

/** A frame of a reply's stream, and the id from which a client rejoins after it. */
export type StreamEvent = {
  [E in 'message' | 'message-start' | 'message-chunk']: {
    event: E
    id: string
    data: ServerEvents[E]
  }
}['message' | 'message-start' | 'message-chunk']

/** Where a client stands. */
export interface Position {
  epoch?: number | undefined
  offset?: number | undefined
}

/**
 * The design's rule of rejoining: from where in the text a client at `position` is answered; never
 * from inside a surrogate pair, half of which would reach nobody whole.
 */
export function resumeOffset(
  reply: { epoch: number; epochStart: number },
  text: Pick<string, 'length' | 'slice'>,
  { epoch, offset = 0 }: Position,
): number {
  const known = epoch === undefined || epoch === reply.epoch
  const from = Math.min(known ? offset : Math.min(offset, reply.epochStart), text.length)
  const isInsidePair = from > 0 && (text.slice(from - 1, from + 1).codePointAt(0) ?? 0) > 0xffff
  return isInsidePair ? from - 1 : from
}

/** The id of a frame after which a client has `offset` units of a reply. */
export const eventId = (messageId: string, epoch: number, offset: number) =>
  `${messageId}:${epoch}:${offset}`

/**
 * A held reply's stream for one client: what it missed, then what comes, then the end. The client
 * is a cursor into the one text, so it costs no buffer, however slow it reads.
 * Ends without `message` when the signal is aborted or this process loses the reply.
 */
export async function* followLive(
  reply: LiveReply,
  position: Position,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent> {
  const { id: messageId, epoch } = reply
  let offset = resumeOffset(reply.row, reply.text, position)
  let thought = 0
  let told: QueuePosition | undefined
  let begun = false
  while (!signal.aborted) {
    if (!begun && (!reply.position || reply.position !== told)) {
      told = reply.position
      begun = !told
      const data = presentStart(reply.row, told)
      yield { event: 'message-start', id: eventId(messageId, epoch, offset), data }
    }
    while (thought < reply.thinking.length) {
      const data = reply.frameFrom(thought, true)
      thought += data.delta.length
      yield { event: 'message-chunk', id: eventId(messageId, epoch, offset), data }
    }
    while (offset < reply.text.length) {
      const data = reply.frameFrom(offset, false)
      offset += data.delta.length
      yield { event: 'message-chunk', id: eventId(messageId, epoch, offset), data }
    }
    if (reply.isOver) {
      if (hasEnded(reply.row)) yield endOf(reply.row)
      return
    }
    await reply.changed(signal)
  }
}

/** An ended reply's stream: its rest, and `message`. */
export function* followEnded(row: MessageRow, position: Position): Generator<StreamEvent> {
  const { id: messageId, chatId, epoch } = row
  let offset = resumeOffset(row, row.content, position)
  const thinking = row.thinking ?? ''
  for (let thought = 0; thought < thinking.length; ) {
    const delta = sliceOf(thinking, thought)
    const id = eventId(messageId, epoch, offset)
    const data = { chatId, messageId, epoch, offset: thought, delta, thinking: true as const }
    yield { event: 'message-chunk', id, data }
    thought += delta.length
  }
  while (offset < row.content.length) {
    const data = { chatId, messageId, epoch, offset, delta: sliceOf(row.content, offset) }
    offset += data.delta.length
    yield { event: 'message-chunk', id: eventId(messageId, epoch, offset), data }
  }
  yield endOf(row)
}

/** The ends that were told, so that all who follow one reply share its record. */
const ends = new WeakMap<MessageRow, Message>()

function endOf(row: MessageRow): StreamEvent {
  const data = ends.get(row) ?? presentMessage(row)
  ends.set(row, data)
  return { event: 'message', id: eventId(row.id, row.epoch, row.content.length), data }
}
