import { useState } from 'preact/hooks'
import type { GenerationOptions } from '../client/index.js'
import { strings } from './strings.js'

interface Bounds {
  least: number
  most: number
  isInteger?: true
}

/** The bounds of the API; the server’s own settings may be narrower, and it then says so. */
const numbers = {
  temperature: { least: 0, most: 5 },
  seed: { least: -2147483648, most: 2147483647, isInteger: true },
  num_ctx: { least: 256, most: 10_000_000, isInteger: true },
  num_predict: { least: -2, most: 10_000_000, isInteger: true },
  top_k: { least: 0, most: 1000, isInteger: true },
  top_p: { least: 0, most: 1 },
  min_p: { least: 0, most: 1 },
  repeat_penalty: { least: 0, most: 10 },
  repeat_last_n: { least: -1, most: 1_048_576, isInteger: true },
  presence_penalty: { least: -10, most: 10 },
  frequency_penalty: { least: -10, most: 10 },
} satisfies Partial<Record<keyof GenerationOptions, Bounds>>

type NumberName = keyof typeof numbers
const numberNames = Object.keys(numbers) as NumberName[]
const text = strings.settings

/** Every option of a chat, with what it does; an empty one has the model’s default. */
export function OptionFields({
  options,
  onChange,
}: {
  options: GenerationOptions
  onChange: (options: GenerationOptions) => void
}) {
  const change = (part: GenerationOptions) => {
    const entries = Object.entries({ ...options, ...part })
    onChange(Object.fromEntries(entries.filter(([, value]) => value !== undefined)))
  }
  const [, stopHelp] = text.fields.stop
  return (
    <details class="options" open={Object.keys(options).length > 0}>
      <summary>{text.options}</summary>
      <ThinkField think={options.think} onChange={(think) => change({ think })} />
      {numberNames.map((name) => (
        <NumberField
          key={`${name} ${options[name] ?? ''}`}
          name={name}
          value={options[name]}
          onChange={(value) => change({ [name]: value })}
        />
      ))}
      <div class="field">
        <label for="option-stop">{text.fields.stop[0]}</label>
        <textarea
          key={options.stop?.join('\n') ?? ''}
          id="option-stop"
          rows={2}
          aria-describedby="option-stop-help"
          defaultValue={options.stop?.join('\n') ?? ''}
          onChange={({ currentTarget: { value } }) => {
            const stop = value.split('\n').filter((line) => line !== '')
            change({ stop: stop.length > 0 ? stop : undefined })
          }}
        />
        <p class="hint" id="option-stop-help">
          {stopHelp}
        </p>
      </div>
      {Object.keys(options).length > 0 && (
        <button type="button" onClick={() => onChange({})}>
          {text.reset}
        </button>
      )}
    </details>
  )
}

function NumberField({
  name,
  value,
  onChange,
}: {
  name: NumberName
  value: number | undefined
  onChange: (value: number | undefined) => void
}) {
  const [fault, setFault] = useState<string>()
  const { least, most, isInteger }: Bounds = numbers[name]
  const [label, help] = text.fields[name]
  const id = `option-${name}`
  return (
    <div class="field number">
      <label for={id}>{label}</label>
      <input
        id={id}
        inputMode={isInteger && least >= 0 ? 'numeric' : 'text'}
        autocomplete="off"
        placeholder={text.default}
        aria-describedby={`${id}-help`}
        aria-invalid={fault !== undefined}
        defaultValue={value === undefined ? '' : String(value)}
        onChange={({ currentTarget }) => {
          const written = currentTarget.value.trim().replace(',', '.')
          const number = Number(written)
          const isRight =
            number >= least && number <= most && (!isInteger || Number.isInteger(number))
          if (written !== '' && !isRight) {
            const told = isInteger ? text.invalidInteger : text.invalid
            return setFault(told(least, most))
          }
          setFault(undefined)
          onChange(written === '' ? undefined : number)
        }}
      />
      <p class={fault === undefined ? 'hint' : 'fault'} id={`${id}-help`}>
        {fault ?? help}
      </p>
    </div>
  )
}

function ThinkField({
  think,
  onChange,
}: {
  think: boolean | undefined
  onChange: (think: boolean | undefined) => void
}) {
  const [label, help] = text.fields.think
  return (
    <div class="field">
      <label for="option-think">{label}</label>
      <select
        id="option-think"
        aria-describedby="option-think-help"
        value={think === undefined ? '' : String(think)}
        onChange={({ currentTarget: { value } }) =>
          onChange(value === '' ? undefined : value === 'true')
        }
      >
        <option value="">{text.default}</option>
        <option value="true">{text.yes}</option>
        <option value="false">{text.no}</option>
      </select>
      <p class="hint" id="option-think-help">
        {help}
      </p>
    </div>
  )
}
