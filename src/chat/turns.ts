import type { Message, Turn } from '../../schemas/messages.js'
import { AppError, isErrorCode } from '../errors.js'
import type { StoredTurn } from '../stores/store.js'
import { eventId, type StreamEvent } from './follow.js'
import type { Generations } from './generations.js'
import { presentMessage } from './present.js'

/** The ways in which a client hears of a turn: its records, the whole reply, or its stream. */
export class Turns {
  constructor(private readonly generations: Generations) {}

  present({ message, reply }: StoredTurn): Turn {
    return { message: presentMessage(message), reply: presentMessage(reply) }
  }

  /**
   * The turn once its reply has ended.
   * @throws AppError with `replyId` when the reply failed or was interrupted.
   */
  async whole({ message, reply }: StoredTurn, signal: AbortSignal): Promise<Turn> {
    const ended = await this.generations.rejoining.ended(reply, signal)
    if (ended.status === 'error' || ended.status === 'interrupted') {
      const { code = 'INTERNAL', message: text } = ended.error ?? {}
      throw new AppError(isErrorCode(code) ? code : 'INTERNAL', {
        ...(text && { message: text }),
        replyId: reply.id,
      })
    }
    return { message: presentMessage(message), reply: presentMessage(ended) }
  }

  /** The turn as events: the user's message, then the reply's stream. */
  async *follow({ message, reply }: StoredTurn, signal: AbortSignal): AsyncGenerator<StreamEvent> {
    // Its id leads to the reply, which is what a client may have to rejoin.
    yield { event: 'message', id: eventId(reply.id, 1, 0), data: presentMessage(message) }
    const { userId, chatId, id } = reply
    yield* await this.generations.rejoining.follow(
      userId,
      chatId,
      id,
      { epoch: 1, offset: 0 },
      signal,
    )
  }

  async stop(userId: string, chatId: string, messageId: string): Promise<Message> {
    return presentMessage(await this.generations.stopping.stop(userId, chatId, messageId))
  }
}
