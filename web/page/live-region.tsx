import { useStore } from './store/store.js'

/** Where screen readers hear whole sentences, in browsers that cannot be asked to say them. */
export function LiveRegion() {
  const { announcer } = useStore()
  return (
    <div class="hidden" role="status">
      {announcer.region}
    </div>
  )
}
