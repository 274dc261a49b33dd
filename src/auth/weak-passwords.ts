const commonestCount = 10_000
const shortest = 8

let commonest: Promise<ReadonlySet<string>> | undefined

/** Loaded with the first registration: the list takes 2 MB. */
async function loadCommonest(): Promise<ReadonlySet<string>> {
  const { dictionary } = await import('@zxcvbn-ts/language-common')
  const longEnough = dictionary['passwords-common'].filter(({ length }) => length >= shortest)
  return new Set(longEnough.slice(0, commonestCount))
}

/** Counts the different steps from a character's code to the next: few in `abcabc` and `4321`. */
export const differentSteps = (text: string): number =>
  new Set(
    Array.from({ length: text.length - 1 }, (_, i) => text.charCodeAt(i + 1) - text.charCodeAt(i)),
  ).size

/** A sentence for the user on why a new password is easy to guess, or undefined. */
export async function weaknessOf(password: string, username: string): Promise<string | undefined> {
  const lower = password.toLowerCase()
  if (lower.includes(username.toLowerCase())) return 'The password contains the username.'
  // The list of common passwords leaves these out.
  if (differentSteps(lower) < 3) return 'The password is a repetition or a sequence.'
  commonest ??= loadCommonest()
  if ((await commonest).has(lower)) return 'The password is one of the commonest.'
  return undefined
}
