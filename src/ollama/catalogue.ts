import { LRUCache } from 'lru-cache'
import pLimit from 'p-limit'
import type { LanguageModel } from '../../schemas/models.js'
import type { Cache } from '../cache/cache.js'
import { modelsKey } from '../cache/keys.js'
import { fetchOnce } from '../cache/read-through.js'
import { AppError } from '../errors.js'
import { within } from '../within.js'
import type { OllamaClient } from './client.js'
import type { ListedModel, LoadedModels, ModelFacts } from './model-answers.js'
import { comparable } from './model-name.js'
import { createRevalidated } from './revalidated.js'

export interface ResolvedModel {
  /** As Ollama lists it. */
  name: string
  digest: string
  /** False where Ollama says that it is not loaded. */
  isLoaded: boolean
  /** The window that is loaded, in tokens; undefined while the model is not loaded. */
  contextLength: number | undefined
  /** The window and the longest reply that its Modelfile sets, where it does. */
  numCtx: number | undefined
  numPredict: number | undefined
  /** The window it was trained for, where Ollama tells. */
  trainedContextLength: number | undefined
  template: string
  /** Undefined where Ollama does not tell. */
  capabilities: string[] | undefined
  /** Whether the template leaves a begun answer open, so that the model can continue it. */
  continues: boolean
}

export interface ModelCatalogue {
  /** @throws AppError as the client's `list` does, when nothing recent enough is known. */
  list(): Promise<LanguageModel[]>
  /**
   * @param name compared as Ollama does; undefined: the default, else the first that can chat.
   * @throws AppError MODEL_NOT_FOUND, MODEL_CANNOT, and what `list` throws.
   */
  find(name?: string): Promise<ResolvedModel>
  /** As `find`, by a list that Ollama has just given: it throws while Ollama is away. */
  findNow(name?: string): Promise<ResolvedModel>
  /**
   * As `find`; while Ollama is away, by the last list, however old.
   * @throws AppError MODEL_NOT_FOUND, MODEL_CANNOT, MODELS_UNKNOWN.
   */
  findKnown(name?: string): Promise<ResolvedModel>
  /**
   * Asks Ollama for the window, in tokens, that a model is loaded with. Never rejects; undefined when
   * it is not loaded or Ollama does not tell soon.
   */
  loadedWindow(name: string): Promise<number | undefined>
}

interface CatalogueOptions {
  /** Shared by the servers, so that one of them asks Ollama for the list and all know it. */
  cache: Cache
  /** Ollama's address, without credentials. */
  url: string
  defaultModel: string | undefined
  /** How long a list is served without asking again. */
  freshMs?: number
  /** How long it is served while it is asked for again. */
  staleMs?: number
  /** How old a list must be for Ollama to be asked again for a name that is not in it. */
  momentMs?: number
}

/** How long a list, or whoever asks for a model, waits for facts; a later list has later ones. */
const capabilitiesMs = 1_000
const showsAtOnce = 4
const maxFacts = 5_000
/** How long the loaded windows are served as they are, and while they are asked for again. */
const windowsFreshMs = 5_000
const windowsStaleMs = 30_000
/** How long a look at the loaded windows may keep whoever asks. */
const loadedWindowMs = 250

/** How old a list may be that counts as given just now. */
const justNowMs = 100

/** What a model's facts are known by. */
const keyOf = ({ digest, name }: ListedModel) => digest || name

/** The models that Ollama has, known without asking it each time. */
export function createModelCatalogue(
  client: OllamaClient,
  {
    cache,
    url,
    defaultModel,
    freshMs = 5_000,
    staleMs = 300_000,
    momentMs = 1_000,
  }: CatalogueOptions,
): ModelCatalogue {
  const limit = pLimit(showsAtOnce)
  const facts = new LRUCache<string, ModelFacts, string>({
    max: maxFacts,
    ignoreFetchAbort: true,
    // A model that can't be shown can be listed and used all the same; it is asked about again.
    fetchMethod: (_key, _stale, { context: name }) =>
      limit(() => client.show(name).catch(() => undefined)),
  })
  const factsOf = (model: ListedModel) => facts.fetch(keyOf(model), { context: model.name })

  async function askForModels() {
    const listed = await client.list()
    await within(Promise.all(listed.map(factsOf)), capabilitiesMs)
    return listed.map((model) => ({ ...model, facts: facts.get(keyOf(model)) }))
  }

  const models = createRevalidated<ListedModel[]>(
    async (maxAgeMs) => {
      const { value, at } = await fetchOnce(cache, modelsKey(url), maxAgeMs, askForModels)
      const listed = value.map(({ facts: shown, ...model }) => {
        if (shown) facts.set(keyOf(model), shown)
        return model
      })
      return { value: listed, at }
    },
    freshMs,
    staleMs,
  )

  const loaded = createRevalidated<LoadedModels | undefined>(
    async (_maxAgeMs, last) => {
      const at = Date.now()
      // Where Ollama does not tell, what was seen last is a better guess than none.
      return { value: await client.loaded().catch(() => last), at }
    },
    windowsFreshMs,
    windowsStaleMs,
  )

  function pick(listed: readonly ListedModel[], name = defaultModel): ListedModel | undefined {
    if (name === undefined) return listed.find((model) => canChat(facts.get(keyOf(model))))
    const same = comparable(name)
    return (
      listed.find((model) => model.name === name) ??
      listed.find((model) => comparable(model.name) === same)
    )
  }

  async function resolve(model: ListedModel): Promise<ResolvedModel> {
    const [known, told] = await Promise.all([
      within(factsOf(model), capabilitiesMs),
      within(loaded.get(), loadedWindowMs),
    ])
    const windows = told ?? loaded.last()
    if (!canChat(known)) {
      throw new AppError('MODEL_CANNOT', {
        message: `${model.name} cannot chat: name another model.`,
      })
    }
    const template = known?.template ?? ''
    return {
      name: model.name,
      digest: model.digest,
      isLoaded: windows?.has(model.name) ?? true,
      contextLength: windows?.get(model.name),
      trainedContextLength: known?.contextLength,
      numCtx: known?.numCtx,
      numPredict: known?.numPredict,
      template,
      capabilities: known?.capabilities,
      continues: /\$last\b|slice \$\.Messages/.test(template),
    }
  }

  const notFound = (name: string | undefined) =>
    new AppError('MODEL_NOT_FOUND', messageOf(name, defaultModel))

  async function find(name?: string): Promise<ResolvedModel> {
    let model = pick(await models.get(), name)
    if (!model && models.ageMs() > momentMs) model = pick(await models.refresh(momentMs), name)
    if (!model) throw notFound(name)
    return resolve(model)
  }

  return {
    async list() {
      return (await models.get()).map(({ digest, ...model }) => {
        const capabilities = facts.get(keyOf({ ...model, digest }))?.capabilities
        return capabilities ? { ...model, capabilities } : model
      })
    },

    find,

    async findNow(name) {
      const model = pick(await models.refresh(justNowMs), name)
      if (!model) throw notFound(name)
      return resolve(model)
    },

    async findKnown(name) {
      try {
        return await find(name)
      } catch (error) {
        if (error instanceof AppError && answers.has(error.code)) throw error
        const listed = models.last()
        if (!listed) throw new AppError('MODELS_UNKNOWN', { cause: error })
        const model = pick(listed, name)
        if (!model) throw notFound(name)
        return resolve(model)
      }
    },

    async loadedWindow(name) {
      return (await within(loaded.refresh(), loadedWindowMs))?.get(name)
    },
  }
}

/** Errors that are answers about a model, and no faults of Ollama. */
const answers: ReadonlySet<string> = new Set(['MODEL_NOT_FOUND', 'MODEL_CANNOT'])

/** Whether a model answers chats; where Ollama does not tell, it may. */
const canChat = (facts: ModelFacts | undefined) =>
  facts?.capabilities?.includes('completion') ?? true

/** Whether a model can think; where Ollama does not tell, it may. */
export const canThink = ({ capabilities }: ResolvedModel) =>
  capabilities?.includes('thinking') ?? true

function messageOf(name: string | undefined, defaultModel: string | undefined) {
  if (name !== undefined) return {}
  if (defaultModel === undefined) {
    return { message: 'Ollama has no model that can chat yet: pull one with `ollama pull`.' }
  }
  return {
    message:
      `The default model, ${defaultModel}, is not among Ollama’s: pull it with \`ollama pull ` +
      `${defaultModel}\`, set DEFAULT_MODEL to another, or name one.`,
  }
}
