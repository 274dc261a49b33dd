import type { ComponentChildren } from 'preact'

function Icon({ children }: { children: ComponentChildren }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 24 24"
      width="20"
      height="20"
      fill="none"
      stroke="currentColor"
      stroke-width="1.75"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  )
}

export const MenuIcon = () => (
  <Icon>
    <path d="M4 7h16M4 12h16M4 17h10" />
  </Icon>
)
export const CloseIcon = () => (
  <Icon>
    <path d="M6 6l12 12M18 6L6 18" />
  </Icon>
)
export const PlusIcon = () => (
  <Icon>
    <path d="M12 5v14M5 12h14" />
  </Icon>
)
export const SettingsIcon = () => (
  <Icon>
    <path d="M4 8h9M19 8h1M4 16h1M11 16h9" />
    <circle cx="16" cy="8" r="2.5" />
    <circle cx="8" cy="16" r="2.5" />
  </Icon>
)
export const RenameIcon = () => (
  <Icon>
    <path d="M5 19l1-4L16.5 4.5a2 2 0 0 1 3 3L9 18z" />
  </Icon>
)
export const DeleteIcon = () => (
  <Icon>
    <path d="M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7" />
  </Icon>
)
export const AccountIcon = () => (
  <Icon>
    <circle cx="12" cy="9" r="3.5" />
    <path d="M5 19.5c1.2-3.2 3.8-4.5 7-4.5s5.800 1.300 7 4.500" />
  </Icon>
)
export const DownIcon = () => (
  <Icon>
    <path d="M12 5v13M6.5 13L12 18.5 17.5 13" />
  </Icon>
)
