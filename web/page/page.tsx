import { LiveRegion } from './live-region.js'
import { Login } from './login.js'
import { useStore } from './store/store.js'
import { Workspace } from './workspace.js'

/** The login, or the chats of the one who is signed in. */
export function Page() {
  const { session } = useStore()
  return (
    <>
      {session.state.value === 'out' && <Login />}
      {session.state.value === 'in' && <Workspace />}
      <LiveRegion />
    </>
  )
}
