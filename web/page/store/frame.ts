/** How often a window that nobody looks at is brought up to date, in milliseconds. */
const hiddenMs = 250

/**
 * Makes a function that asks for one run of `run` before the next frame, however often it is called.
 * Browsers give hidden windows no frames; there a timer does.
 */
export function oncePerFrame(run: () => void): () => void {
  let isDue = false
  const now = () => {
    isDue = false
    run()
  }
  return () => {
    if (isDue) return
    isDue = true
    if (document.hidden) setTimeout(now, hiddenMs)
    else requestAnimationFrame(now)
  }
}
