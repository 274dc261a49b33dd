import { useEffect, useState } from 'preact/hooks'
import { strings } from './strings.js'

const tickMs = 1000

/** Where a reply stands in the queue, and when it will begin. */
export function QueuePlace({
  position,
  estimatedStart,
}: {
  position: number | undefined
  estimatedStart: string | undefined
}) {
  const [now, setNow] = useState(Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), tickMs)
    return () => clearInterval(timer)
  }, [])
  const { starting, position: placeOf, begins } = strings.conversation
  if (position === undefined) return <p class="queue-place">{starting}</p>
  return (
    <p class="queue-place">
      {placeOf(position)}
      {estimatedStart !== undefined && ` · ${begins(Date.parse(estimatedStart) - now)}`}
    </p>
  )
}
