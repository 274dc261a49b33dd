import { effect, signal } from '@preact/signals'
import type { KeyValues } from './browser-storage.js'

export const themes = ['system', 'light', 'dark'] as const
export type Theme = (typeof themes)[number]

const key = 'page.theme'

/** What the window looks like: the theme, and which panels are open. */
export class LookStore {
  readonly theme = signal<Theme>('system')
  /** The list of chats, where the window is too narrow for it. */
  readonly isListOpen = signal(false)
  readonly isSettingsOpen = signal(false)

  constructor(storage: KeyValues) {
    const kept = storage.getItem(key)
    this.theme.value = themes.find((theme) => theme === kept) ?? 'system'
    effect(() => {
      const theme = this.theme.value
      if (theme === 'system') {
        storage.removeItem(key)
        delete document.documentElement.dataset.theme
      } else {
        storage.setItem(key, theme)
        document.documentElement.dataset.theme = theme
      }
    })
  }
}
