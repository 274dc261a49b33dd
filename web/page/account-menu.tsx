import { useRef, useState } from 'preact/hooks'
import { ChatError } from '../client/index.js'
import { ErrorNote } from './error-note.js'
import { AccountIcon } from './icons.js'
import { themes } from './store/look.js'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

/** The account, its sessions, the look, and what to read about the server. */
export function AccountMenu() {
  const { session } = useStore()
  const dialog = useRef<HTMLDialogElement>(null)
  const name = session.user.value?.username
  const text = strings.account
  return (
    <div class="account">
      <button
        type="button"
        aria-haspopup="dialog"
        aria-label={name === undefined ? undefined : text.menu(name)}
        onClick={() => dialog.current?.showModal()}
      >
        <AccountIcon />
        <bdi>{name ?? text.menuUnnamed}</bdi>
      </button>
      <dialog ref={dialog} aria-label={text.menuUnnamed} closedby="any">
        <div class="dialog-head">
          <h2>{text.menuUnnamed}</h2>
          <button type="button" onClick={() => dialog.current?.close()}>
            {text.close}
          </button>
        </div>
        <Profile />
        <Appearance />
        <Keys />
        <p class="links">
          <a href="/docs">{text.api}</a> <a href="/docs/protocol">{text.protocol}</a>
        </p>
        <Sessions />
        <DeleteAccount />
      </dialog>
    </div>
  )
}

function Profile() {
  const { session } = useStore()
  const user = session.user.value
  const text = strings.account
  if (!user) return null
  return (
    <section>
      <h3>{text.profile}</h3>
      <dl>
        <dt>{text.username}</dt>
        <dd>
          <bdi>{user.username}</bdi>
        </dd>
        <dt>{text.email}</dt>
        <dd>
          <bdi>{user.email}</bdi>
        </dd>
        <dt>{text.since}</dt>
        <dd>{new Date(user.createdAt).toLocaleDateString('en', { dateStyle: 'long' })}</dd>
      </dl>
    </section>
  )
}

function Appearance() {
  const { look } = useStore()
  const text = strings.account
  return (
    <fieldset class="appearance">
      <legend>{text.appearance}</legend>
      {themes.map((theme) => (
        <label key={theme}>
          <input
            type="radio"
            name="theme"
            checked={look.theme.value === theme}
            onChange={() => {
              look.theme.value = theme
            }}
          />
          {text.themes[theme]}
        </label>
      ))}
    </fieldset>
  )
}

function Keys() {
  return (
    <details>
      <summary>{strings.account.keyboard}</summary>
      <dl class="keys">
        {strings.keys.map(([key, does]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
    </details>
  )
}

function Sessions() {
  const { session } = useStore()
  const text = strings.account
  // Whatever becomes of the call, the tokens are forgotten here.
  const leave = (call: Promise<void>) => void call.catch(() => {})
  return (
    <section>
      <div class="actions">
        <button type="button" onClick={() => leave(session.logOut())}>
          {text.logOut}
        </button>
        <button type="button" onClick={() => leave(session.logOutEverywhere())}>
          {text.logOutEverywhere}
        </button>
      </div>
      <p class="hint">{text.logOutEverywhereHelp}</p>
    </section>
  )
}

function DeleteAccount() {
  const { session } = useStore()
  const [isAsked, setIsAsked] = useState(false)
  const [password, setPassword] = useState('')
  const [error, setError] = useState<ChatError>()
  const text = strings.account

  async function remove() {
    try {
      await session.deleteAccount(password)
    } catch (error) {
      if (!(error instanceof ChatError)) throw error
      setError(error)
    }
  }

  if (!isAsked) {
    return (
      <button type="button" class="danger" onClick={() => setIsAsked(true)}>
        {text.delete}
      </button>
    )
  }
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault()
        void remove()
      }}
    >
      <p id="delete-help">{text.deleteHelp}</p>
      <div class="field">
        <label for="delete-password">{strings.login.password}</label>
        <input
          id="delete-password"
          type="password"
          autocomplete="current-password"
          aria-describedby="delete-help"
          value={password}
          onInput={({ currentTarget }) => setPassword(currentTarget.value)}
        />
      </div>
      <div role="alert">{error && <ErrorNote error={error} />}</div>
      <div class="actions">
        <button type="submit" class="danger">
          {text.deleteConfirm}
        </button>
        <button type="button" onClick={() => setIsAsked(false)}>
          {text.cancel}
        </button>
      </div>
    </form>
  )
}
