import { useEffect, useRef, useState } from 'preact/hooks'
import { ChatError } from '../client/index.js'
import { ErrorNote } from './error-note.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

type FieldName = 'username' | 'email' | 'password'

const inputTypes: Readonly<Record<FieldName, 'text'>> = {
  username: 'text',
  email: 'email' as 'text',
  password: 'password' as 'text',
}

/** Logs in by either name, or makes an account. */
export function Login() {
  const { session } = useStore()
  const [fields, setFields] = useState({ username: '', email: '', password: '' })
  const [missing, setMissing] = useState<Partial<Record<FieldName, string>>>({})
  const [error, setError] = useState<ChatError>()
  const [isBusy, setIsBusy] = useState(false)
  const form = useRef<HTMLFormElement>(null)
  const text = strings.login
  const { ended } = session

  useEffect(() => {
    document.title = strings.product
    form.current?.querySelector('input')?.focus()
  }, [])

  /** Tells what is missing, and takes the focus to the first of it. */
  function isComplete(wanted: Partial<Record<FieldName, string>>): boolean {
    setMissing(wanted)
    const [first] = Object.keys(wanted)
    if (first === undefined) return true
    form.current?.querySelector<HTMLInputElement>(`[name=${first}]`)?.focus()
    return false
  }

  async function run(call: () => Promise<void>) {
    if (isBusy) return
    setIsBusy(true)
    setError(undefined)
    try {
      await call()
    } catch (error) {
      if (!(error instanceof ChatError)) throw error
      setError(error)
      setIsBusy(false)
    }
  }

  function logIn() {
    const { username, email, password } = fields
    // An email typed as the username is one.
    const name = username.trim() || email.trim()
    const isReady = isComplete({
      ...(name === '' && { username: text.needName }),
      ...(password === '' && { password: text.needPassword }),
    })
    if (!isReady) return
    void run(() =>
      session.logIn(name.includes('@') ? { email: name, password } : { username: name, password }),
    )
  }

  function register() {
    const username = fields.username.trim()
    const email = fields.email.trim()
    const { password } = fields
    const isReady = isComplete({
      ...(username === '' && { username: text.needUsername }),
      ...(email === '' && { email: text.needEmail }),
      ...(password === '' && { password: text.needPassword }),
    })
    if (isReady) void run(() => session.register({ username, email, password }))
  }

  const field = (name: FieldName, label: string, autocomplete: string, hint?: string) => {
    const wanted = missing[name]
    const described = [wanted && `${name}-missing`, hint && `${name}-hint`]
      .filter(Boolean)
      .join(' ')
    return (
      <div class="field">
        <label for={name}>{label}</label>
        <input
          id={name}
          name={name}
          type={inputTypes[name]}
          autocomplete={autocomplete}
          autocapitalize="none"
          spellcheck={false}
          value={fields[name]}
          aria-invalid={wanted !== undefined}
          aria-describedby={described || undefined}
          onInput={({ currentTarget: { value } }) =>
            setFields((now) => ({ ...now, [name]: value }))
          }
        />
        {wanted && (
          <p class="fault" id={`${name}-missing`}>
            {wanted}
          </p>
        )}
        {hint && (
          <p class="hint" id={`${name}-hint`}>
            {hint}
          </p>
        )}
      </div>
    )
  }

  return (
    <main class="login">
      <h1>{strings.product}</h1>
      <p class="lead">{text.lead}</p>
      {ended.value !== undefined && (
        <p class="notice" role="status">
          {text.ended[ended.value as 'other'] ?? text.ended.other}
          {ended.value !== 'ACCOUNT_DELETED' && ` ${text.kept}`}
        </p>
      )}
      <form
        ref={form}
        noValidate
        onSubmit={(event) => {
          event.preventDefault()
          logIn()
        }}
      >
        {field('username', text.username, 'username')}
        {field('email', text.email, 'email', text.eitherHint)}
        {field('password', text.password, 'current-password', text.passwordHint)}
        <div role="alert">{error && <ErrorNote error={error} />}</div>
        <div class="actions">
          <button type="submit" class="primary" aria-disabled={isBusy}>
            {text.logIn}
          </button>
          <button type="button" aria-disabled={isBusy} onClick={register}>
            {text.register}
          </button>
        </div>
      </form>
    </main>
  )
}
