import { useEffect, useRef, useState } from 'preact/hooks'
import { type Chat, ChatError, type ChatInput, type GenerationOptions } from '../client/index.js'
import { ErrorNote } from './error-note.js'
import { CloseIcon } from './icons.js'
import { OptionFields } from './option-fields.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

const longestSystem = 32_000

/** The model, the system prompt and the options of the chat that is shown, each explained. */
export function SettingsPanel() {
  const { thread, route, newChat, client, look, models } = useStore()
  const [error, setError] = useState<ChatError>()
  const [saved, setSaved] = useState<'saving' | 'saved'>()
  const panel = useRef<HTMLElement>(null)
  const isNew = route.chatId.value === undefined
  const chat: Partial<Pick<Chat, 'model' | 'system' | 'options'>> | undefined = isNew
    ? newChat.input.value
    : thread.value?.chat.value
  const text = strings.settings

  useEffect(() => {
    panel.current?.querySelector<HTMLElement>('select, textarea')?.focus()
    if (models.list.value === undefined) void models.load()
  }, [])

  /** @param change a field that is undefined goes back to its default. */
  async function save(change: Pick<ChatInput, 'model' | 'system' | 'options'>) {
    setError(undefined)
    if (isNew) {
      newChat.input.value = withoutEmpty({ ...newChat.input.value, ...change })
      return
    }
    setSaved('saving')
    const patch = Object.fromEntries(
      Object.entries(change).map(([name, value]) => [name, value ?? null]),
    )
    try {
      await client.rest.updateChat(route.chatId.value ?? '', patch)
      setSaved('saved')
    } catch (error) {
      if (!(error instanceof ChatError)) throw error
      setSaved(undefined)
      setError(error)
    }
  }

  const close = () => {
    look.isSettingsOpen.value = false
    document.getElementById('open-settings')?.focus()
  }

  return (
    <aside class="settings" ref={panel} aria-labelledby="settings-heading">
      <div class="dialog-head">
        <h2 id="settings-heading">{isNew ? text.headingNew : text.heading}</h2>
        <button type="button" class="icon-button" aria-label={text.close} onClick={close}>
          <CloseIcon />
        </button>
      </div>
      <p class="hint" role="status">
        {saved && text[saved]}
      </p>
      <div role="alert">{error && <ErrorNote error={error} />}</div>
      {chat && (
        <>
          <ModelField model={chat.model ?? undefined} onChange={(model) => void save({ model })} />
          <div class="field">
            <label for="system">{text.system}</label>
            <textarea
              // Another one when it was changed elsewhere.
              key={chat.system ?? ''}
              id="system"
              rows={4}
              dir="auto"
              maxLength={longestSystem}
              aria-describedby="system-help"
              defaultValue={chat.system ?? ''}
              onChange={({ currentTarget: { value } }) =>
                void save({ system: value.trim() === '' ? undefined : value })
              }
            />
            <p class="hint" id="system-help">
              {text.systemHelp}
            </p>
          </div>
          <OptionFields
            options={chat.options ?? {}}
            onChange={(options: GenerationOptions) =>
              void save({ options: Object.keys(options).length === 0 ? undefined : options })
            }
          />
        </>
      )}
    </aside>
  )
}

function withoutEmpty(input: ChatInput): ChatInput {
  return Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined))
}

function ModelField({
  model,
  onChange,
}: {
  model: string | undefined
  onChange: (model: string | undefined) => void
}) {
  const { models } = useStore()
  const text = strings.settings
  const names = models.list.value?.map(({ name }) => name) ?? (model === undefined ? [] : [model])
  const isGone = model !== undefined && !names.includes(model)
  return (
    <div class="field">
      <label for="model">{text.model}</label>
      <select
        id="model"
        aria-describedby="model-help"
        value={model ?? ''}
        onChange={({ currentTarget: { value } }) => onChange(value === '' ? undefined : value)}
      >
        <option value="">{text.modelDefault}</option>
        {isGone && <option value={model}>{text.modelGone(model)}</option>}
        {names.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
      <p class="hint" id="model-help">
        {text.modelHelp}
      </p>
      {models.error.value && (
        <>
          <strong>{text.modelsFailed}</strong>
          <ErrorNote error={models.error.value} />
        </>
      )}
    </div>
  )
}
