import { useEffect, useState } from 'preact/hooks'
import { useStore } from './store/store.js'
import { strings } from './strings.js'

const shownMs = 1500

/** Copies a text, and says so. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const { announcer } = useStore()
  const [said, setSaid] = useState<string>()
  useEffect(() => {
    if (said === undefined) return
    const timer = setTimeout(() => setSaid(undefined), shownMs)
    return () => clearTimeout(timer)
  }, [said])

  async function copy() {
    const told = (await copyText(text))
      ? strings.conversation.copied
      : strings.conversation.notCopied
    setSaid(told)
    announcer.say(told)
  }

  return (
    <button type="button" class="quiet" onClick={() => void copy()}>
      {said ?? label}
    </button>
  )
}

async function copyText(text: string): Promise<boolean> {
  try {
    // Only there in a secure context: on plain http at another host than localhost it is not.
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return copySelected(text)
  }
}

/** The way of browsers on plain http. */
function copySelected(text: string): boolean {
  const before = document.activeElement
  const field = document.createElement('textarea')
  field.value = text
  field.className = 'hidden'
  // A dialog keeps the focus inside.
  ;(before?.closest('dialog') ?? document.body).append(field)
  field.select()
  const isCopied = document.execCommand('copy')
  field.remove()
  if (before instanceof HTMLElement) before.focus()
  return isCopied
}
