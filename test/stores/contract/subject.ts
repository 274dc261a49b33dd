import type { ChatRow, Store } from '../../../src/stores/store.js'

/** The store that a contract is tried on. */
export interface Subject {
  /** Opened before the first test runs. */
  store(): Store
  /** A chat that is stored. */
  newChat(fields?: Partial<ChatRow>): Promise<ChatRow>
}

/** Text that a careless store changes: composed, decomposed, beyond the BMP, escapes, NUL. */
export const hardText = 'é e\u0301 👨‍👩‍👧‍👦 🇪🇺 漢字 ﷽ \u200d\ufeff "\\\n\t\u2028\u0001 \u0000 ’ end'

export const times = <T>(count: number, make: (index: number) => T) =>
  Array.from({ length: count }, (_, i) => make(i))

const codeOf = (error: unknown) =>
  error instanceof Error && 'code' in error ? error.code : String(error)

/** How many of `promises` were kept, and the codes of those that were not. */
export async function outcomes(promises: readonly Promise<unknown>[]) {
  const settled = await Promise.allSettled(promises)
  return {
    kept: settled.filter(({ status }) => status === 'fulfilled').length,
    codes: settled.flatMap((result) =>
      result.status === 'rejected' ? [codeOf(result.reason)] : [],
    ),
  }
}
