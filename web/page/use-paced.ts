import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'

/** The part of what is not shown yet that one frame shows. */
const share = 1 / 6
/** Rendering may take one part in so many of the time. */
const restFactor = 3

const reducedMotion = window.matchMedia('(prefers-reduced-motion: reduce)')

/**
 * The part of a growing text to show now. Text that comes in lumps is spread over frames, and a text that is
 * slow to render is rendered less often, so that the rest of the page stays quick.
 */
export function usePaced(text: string, grows: boolean): string {
  const [shown, setShown] = useState(text.length)
  const goal = useRef(text)
  goal.current = text
  const loop = useRef<{ frame: number; restUntil: number; shown: number }>({
    frame: 0,
    restUntil: 0,
    shown,
  }).current

  useLayoutEffect(() => {
    if (!grows || loop.frame !== 0) return
    const step = (now: number) => {
      loop.frame = 0
      const { length } = goal.current
      if (loop.shown === length) return
      if (now >= loop.restUntil) {
        loop.shown = nextShown(loop.shown, goal.current)
        setShown(loop.shown)
        // Runs when the frame is done: what it took is what it cost.
        const began = performance.now()
        setTimeout(() => {
          const tookMs = performance.now() - began
          if (tookMs > 12) loop.restUntil = performance.now() + tookMs * restFactor
        })
      }
      loop.frame = requestAnimationFrame(step)
    }
    loop.frame = requestAnimationFrame(step)
  }, [text, grows])

  useEffect(() => () => cancelAnimationFrame(loop.frame), [])

  if (!grows || reducedMotion.matches || document.hidden) {
    loop.shown = text.length
    return text
  }
  return text.slice(0, shown)
}

function nextShown(shown: number, text: string): number {
  // A takeover may have cut the text.
  if (shown > text.length) return text.length
  const next = shown + Math.ceil((text.length - shown) * share)
  const unit = text.charCodeAt(next - 1)
  return unit >= 0xd800 && unit <= 0xdbff && next < text.length ? next + 1 : next
}
