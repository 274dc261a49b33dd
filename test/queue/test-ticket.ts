import type { QueuePosition, Ticket } from '../../src/queue/fair-order.js'

export class TestTicket implements Ticket {
  readonly #controller = new AbortController()
  readonly id: string
  readonly signal = this.#controller.signal
  position: QueuePosition | undefined

  constructor(
    readonly userId: string,
    readonly seq: number,
    readonly chatId = `${userId}-chat-${seq}`,
  ) {
    this.id = `${userId}${seq}`
  }

  waitAt(position: QueuePosition): void {
    this.position = position
  }

  leave(): void {
    this.#controller.abort()
  }
}

export const ticket = (userId: string, seq: number, chatId?: string) =>
  new TestTicket(userId, seq, chatId)
