import { useStore } from './store/store.js'
import { strings } from './strings.js'

/** Says quietly what the connection is doing, when there is anything to say. */
export function ConnectionLine() {
  const { connection, client } = useStore()
  const line = connection.line.value
  return (
    <div class="connection-line" role="status" data-state={line}>
      {line && <span>{strings.connection[line]}</span>}
      {line === 'closed' && (
        <button type="button" class="quiet" onClick={() => void client.connect().catch(() => {})}>
          {strings.connection.reconnect}
        </button>
      )}
    </div>
  )
}
