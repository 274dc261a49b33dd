import type { Message, Turn } from '../../schemas/messages.js'
import { AppError, isErrorCode } from '../errors.js'
import { eventId, type StreamEvent } from '../follow/follow.js'
import { presentMessage } from '../reply/present.js'
import type { StoredTurn } from '../stores/store.js'
import type { Generations } from './generations.js'

/** The ways in which a client hears of a turn: its records, the whole reply, or its stream. */
export class ReplyResponses {
  constructor(private readonly generations: Generations) {}

  present({ message, reply }: StoredTurn): Turn {
    return { message: presentMessage(message), reply: presentMessage(reply) }
  }

  /**
   * The turn once its reply has ended.
   * @param gone aborted when the client goes away, or, with an AppError, when its session ends.
   * @throws AppError with `replyId` when the reply failed or was interrupted, or the session ended.
   */
  async whole({ message, reply }: StoredTurn, gone: AbortSignal): Promise<Turn> {
    const ended = await Promise.race([
      this.generations.reader.ended(reply, gone),
      sessionEnd(gone, reply.id),
    ])
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
    yield* await this.generations.reader.follow(userId, chatId, id, { epoch: 1, offset: 0 }, signal)
  }

  async stop(userId: string, chatId: string, messageId: string): Promise<Message> {
    return presentMessage(await this.generations.stopping.stop(userId, chatId, messageId))
  }
}

/** Rejects when `gone` is aborted because the session has ended. */
function sessionEnd(gone: AbortSignal, replyId: string): Promise<never> {
  return new Promise((_resolve, reject) => {
    const end = () => {
      if (gone.reason instanceof AppError) reject(new AppError(gone.reason.code, { replyId }))
    }
    gone.addEventListener('abort', end)
    if (gone.aborted) end()
  })
}
