import type { ComponentChildren } from 'preact'

/** A string of the page whose parts between backticks are code. */
export function withCode(text: string): ComponentChildren {
  return text
    .split('`')
    .map((part, index) => (index % 2 === 1 ? <code key={index}>{part}</code> : part))
}
