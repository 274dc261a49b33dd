import {
  type Script,
  type StandInCall,
  standInReply,
  startStandIn,
} from '../services/ollama-stand-in.js'
import type { Random } from '../web/client/model-reply.js'
import { ArenaChat } from './arena-chat.js'
import { Caller, type Way, ways } from './caller.js'
import type { Rules } from './ledger.js'
import { MortalServer } from './processes.js'
import { between, pick, type Settings, type Trial } from './trial.js'

/** How long the model may be kept at a reply that nobody wants any more, in milliseconds. */
const closesMs = 1000
/** Of the stand-in's tokens, about. */
const unitsPerToken = 3.5
const leaseMs = 600

/** The calls of a model by their prompts: each is looked at once, however often it is asked for. */
class Calls {
  readonly #byPrompt = new Map<string, StandInCall[]>()
  #seen = 0

  constructor(private readonly all: readonly StandInCall[]) {}

  of(content: string): readonly StandInCall[] {
    for (const call of this.all.slice(this.#seen)) {
      const prompt = call.body.messages.findLast(({ role }) => role === 'user')?.content ?? ''
      this.#byPrompt.set(prompt, [...(this.#byPrompt.get(prompt) ?? []), call])
    }
    this.#seen = this.all.length
    return this.#byPrompt.get(content) ?? []
  }
}

/** A server and its model, in which a user has races run. */
export class Arena {
  readonly random: Random

  private constructor(
    readonly trial: Trial,
    private readonly calls: Calls,
    private readonly server: MortalServer,
    readonly caller: Caller,
  ) {
    this.random = trial.fork()
  }

  /** One server with one model, and an arena in it for each of so many users. */
  static async open(trial: Trial, users: number, settings: Settings, script?: Script) {
    const standIn = await startStandIn({ script })
    trial.teardown(() => standIn.close())
    const server = await MortalServer.start(trial, {
      OLLAMA_API_URL: standIn.url,
      LEASE_MS: `${leaseMs}`,
      ...settings,
    })
    const callers = await Promise.all(
      Array.from({ length: users }, () => Caller.register(trial, server.url)),
    )
    const calls = new Calls(standIn.calls)
    const arenas = callers.map((caller) => new Arena(trial, calls, server, caller))
    return { server, standIn, arenas }
  }

  /** A new chat, of which the user's socket hears. */
  async newChat(rules: Rules = {}): Promise<ArenaChat> {
    const chat = new ArenaChat(this, await this.caller.newChat(), rules)
    const answer = await this.ask('join-chat', { chatId: chat.id })
    this.trial.check(answer.ok, 'a join was refused', { answer })
    return chat
  }

  ask(event: string, payload: object) {
    return this.caller.ask(event, payload)
  }

  /** A prompt like no other, whose reply takes about so many milliseconds. */
  prompt(ms: number): string {
    const length = between(this.random, 1, 400)
    const rate = ms === 0 ? 0 : Math.ceil((length / unitsPerToken / ms) * 1000)
    const noise = standInReply(`len=${this.random.upTo(30)} seed=${length}`)
    return `n=${this.trial.serial()} len=${length} rate=${rate} ${noise}`
  }

  /** Waits at most so many milliseconds. */
  soon(ms: number): Promise<void> {
    return this.trial.pause(this.random.upTo(ms))
  }

  anyWay(): Way {
    return pick(this.random, ways)
  }

  /** The calls of the model for a prompt. */
  callsOf(content: string): readonly StandInCall[] {
    return this.calls.of(content)
  }

  /** The model is not kept at work for what nobody wants any more. */
  async modelIsFree(contents: readonly string[]): Promise<void> {
    const isFree = () => {
      const calls = contents.flatMap((content) => this.callsOf(content))
      return calls.every(({ answered, closed }) => answered || closed) || undefined
    }
    const startedAt = this.server.awakeMs
    await this.trial.until(`the model is free of ${contents}`, isFree)
    const tookMs = this.server.awakeMs - startedAt
    this.trial.check(tookMs <= closesMs, 'the model was kept at work', { contents, tookMs })
  }

  /** Stops the server for longer than its lease. */
  suspendServer(): Promise<void> {
    return this.server.suspend(leaseMs + this.random.upTo(leaseMs))
  }
}
