import type { ComponentChildren } from 'preact'
import { strings } from './strings.js'
import { withCode } from './with-code.js'

interface Fault {
  code: string
  message: string
  requestId?: string | undefined
  errors?: readonly { field: string; message: string }[] | undefined
}

/** What to do about an error, else what the server says of it, and a way to do it. */
export function ErrorNote({ error, children }: { error: Fault; children?: ComponentChildren }) {
  const { errors = [], requestId } = error
  const advice = strings.advice[error.code]
  return (
    <div class="error-note">
      {(advice !== undefined || errors.length === 0) && (
        <p>
          <bdi>{advice === undefined ? error.message : withCode(advice)}</bdi>
          {error.code === 'INTERNAL' && requestId && <small> {strings.requestId(requestId)}</small>}
        </p>
      )}
      {errors.length > 0 && (
        <ul>
          {errors.map(({ field, message }) => (
            <li key={field}>
              <bdi>
                {field}: {message}
              </bdi>
            </li>
          ))}
        </ul>
      )}
      {children}
    </div>
  )
}
