import pLimit from 'p-limit'
import type { LanguageModel } from '../../schemas/models.js'
import { AppError } from '../errors.js'
import { within } from '../within.js'
import type { OllamaClient } from './client.js'
import type { ListedModel, ModelFacts } from './model-answers.js'
import { createRevalidated } from './revalidated.js'

export interface ResolvedModel {
  /** As Ollama lists it. */
  name: string
  digest: string
  /** The window that is loaded, in tokens; undefined while the model is not loaded. */
  contextLength: number | undefined
  /** The window it was trained for, where Ollama tells. */
  trainedContextLength: number | undefined
  template: string
  capabilities: string[]
  /** Whether the template leaves a begun answer open, so that the model goes on from it. */
  continues: boolean
}

export interface ModelCatalogue {
  /** @throws AppError as the client's `list` does, when nothing recent enough is known. */
  list(): Promise<LanguageModel[]>
  /**
   * @param name `x` also finds `x:latest`; undefined: the default, else the first that is listed.
   * @throws AppError MODEL_NOT_FOUND, and what `list` throws.
   */
  find(name?: string): Promise<ResolvedModel>
  /**
   * The window, in tokens, that a model is loaded with now, asked for anew. Never rejects; undefined
   * when it is not loaded or Ollama does not tell soon.
   */
  loadedWindow(name: string): Promise<number | undefined>
}

interface CatalogueOptions {
  defaultModel: string | undefined
  /** How long a list is served without asking again. */
  freshMs?: number
  /** How long it is served while it is asked for again. */
  staleMs?: number
  /** How old a list must be for a name that is not in it to be looked for again. */
  momentMs?: number
}

/** How long a list, or who asks for a model, waits for facts; later ones come with a later one. */
const capabilitiesMs = 1_000
const showsAtOnce = 4
/** The windows that are loaded: how long they are served as they are, and while asked for again. */
const windowsFreshMs = 5_000
const windowsStaleMs = 30_000
/** How long a look at the loaded windows may keep who asks. */
const loadedWindowMs = 250

/** What a model's facts are known by. */
const keyOf = ({ digest, name }: ListedModel) => digest || name

/** The models that Ollama has, known without asking it each time. */
export function createModelCatalogue(
  client: OllamaClient,
  { defaultModel, freshMs = 5_000, staleMs = 300_000, momentMs = 1_000 }: CatalogueOptions,
): ModelCatalogue {
  const facts = new Map<string, ModelFacts>()
  const flights = new Map<string, Promise<ModelFacts | undefined>>()
  const limit = pLimit(showsAtOnce)

  /** Undefined where Ollama doesn't tell; asked again the next time. */
  async function factsOf(model: ListedModel): Promise<ModelFacts | undefined> {
    const { name } = model
    const key = keyOf(model)
    const known = facts.get(key) ?? flights.get(key)
    if (known) return known
    const flight = limit(async () => {
      try {
        const shown = await client.show(name)
        facts.set(key, shown)
        return shown
      } catch {
        // A model that can't be shown can be listed and used all the same.
        return undefined
      } finally {
        flights.delete(key)
      }
    })
    flights.set(key, flight)
    return flight
  }

  const models = createRevalidated(
    async () => {
      const listed = await client.list()
      const keys = new Set(listed.map(keyOf))
      for (const key of facts.keys()) if (!keys.has(key)) facts.delete(key)
      await within(Promise.all(listed.map(factsOf)), capabilitiesMs)
      return listed
    },
    freshMs,
    staleMs,
  )

  let lastWindows = new Map<string, number>()
  const windows = createRevalidated(
    async () => {
      try {
        lastWindows = await client.loaded()
      } catch {
        // The window last seen is a better guess than none.
      }
      return lastWindows
    },
    windowsFreshMs,
    windowsStaleMs,
  )

  function pick(listed: readonly ListedModel[], name = defaultModel): ListedModel | undefined {
    if (name === undefined) return listed[0]
    return (
      listed.find((model) => model.name === name) ??
      listed.find((model) => model.name === `${name}:latest` || `${model.name}:latest` === name)
    )
  }

  return {
    async list() {
      return (await models.get()).map(({ digest, ...model }) => {
        const capabilities = facts.get(keyOf({ ...model, digest }))?.capabilities
        return capabilities ? { ...model, capabilities } : model
      })
    },

    async find(name) {
      // Mostly all is known, and nothing is waited for.
      let model = pick(models.current() ?? (await models.refresh()), name)
      if (!model && models.ageMs() > momentMs) model = pick(await models.refresh(), name)
      if (!model) throw notFound(name ?? defaultModel)
      const looked = facts.get(keyOf(model)) ?? within(factsOf(model), capabilitiesMs)
      const loading = windows.current() ?? within(windows.refresh(), loadedWindowMs)
      const known = await looked
      const loaded = (await loading) ?? lastWindows
      const template = known?.template ?? ''
      return {
        name: model.name,
        digest: model.digest,
        contextLength: loaded.get(model.name),
        trainedContextLength: known?.contextLength,
        template,
        capabilities: known?.capabilities ?? [],
        continues: /\$last\b|slice \$\.Messages/.test(template),
      }
    },

    async loadedWindow(name) {
      const loaded = await within(windows.refresh(), loadedWindowMs)
      return loaded?.get(name)
    },
  }
}

function notFound(name: string | undefined) {
  const message =
    name === undefined ? 'Ollama has no model yet: pull one with `ollama pull`.' : undefined
  return new AppError('MODEL_NOT_FOUND', message ? { message } : {})
}
