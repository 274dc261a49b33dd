/** In UTF-16 units. */
export const longestPiece = 8000

/** Text without marks, in pieces that are laid out each by itself: its end can grow without all of it. */
export function LongText({ text }: { text: string }) {
  return (
    <div class="long-text" dir="auto">
      {pieces(text).map((piece, index) => (
        <div key={index}>{piece}</div>
      ))}
    </div>
  )
}

/** Cut at the ends of lines, else of words, where there are some. */
function pieces(text: string): string[] {
  const found: string[] = []
  for (let from = 0; from < text.length; ) {
    const to = from + longestPiece < text.length ? endOfPiece(text, from) : text.length
    found.push(text.slice(from, to))
    from = to
  }
  return found
}

function endOfPiece(text: string, from: number): number {
  const longest = from + longestPiece
  const least = from + longestPiece / 2
  for (const end of ['\n', ' ']) {
    const at = text.lastIndexOf(end, longest - 1)
    if (at > least) return at + 1
  }
  return isHighSurrogate(text.charCodeAt(longest - 1)) ? longest - 1 : longest
}

const isHighSurrogate = (unit: number) => unit >= 0xd800 && unit <= 0xdbff
