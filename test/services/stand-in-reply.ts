/*
 * The stand-in model's text: a pure function of the prompt, so that a test knows every character
 * of a reply without having asked for it.
 */

export interface Directives {
  /** The reply's length in UTF-16 units: `len=2000`. */
  length: number
  /** Tokens a second: `rate=200`; 0 is as fast as it goes. */
  rate: number
  /** `seed=7`; else it is made of the prompt. */
  seed: number
  /** The length of the thinking before it: `think=100`. */
  thinking: number
  /** A fault by its name: `fault=cut`. */
  fault: string | undefined
  /** How many tokens come before the fault: `after=20`. */
  after: number
}

export function directivesOf(prompt: string): Directives {
  const number = (name: string, fallback: number) => {
    const match = new RegExp(`\\b${name}=(\\d{1,7})\\b`).exec(prompt)
    return match ? Number(match[1]) : fallback
  }
  return {
    length: number('len', 120),
    rate: number('rate', 0),
    seed: number('seed', hashOf(prompt)),
    thinking: number('think', 0),
    fault: /\bfault=(\w+)/.exec(prompt)?.[1],
    after: number('after', 1),
  }
}

/** What the stand-in answers to a prompt, whole. */
export function standInReply(prompt: string): string {
  const { length, seed } = directivesOf(prompt)
  return textOf(length, seed)
}

/** What it thinks before, where the prompt says `think=`. */
export function standInThinking(prompt: string): string {
  const { thinking, seed } = directivesOf(prompt)
  return textOf(thinking, seed + 1)
}

/** The text in pieces of three code points: marks and joiners are parted from what they belong to. */
export function tokensOf(text: string): string[] {
  const tokens: string[] = []
  let token = ''
  let points = 0
  for (const point of text) {
    token += point
    points += 1
    if (points < 3) continue
    tokens.push(token)
    token = ''
    points = 0
  }
  return token ? [...tokens, token] : tokens
}

const pieces = [
  'the ',
  'answer ',
  'is ',
  'wörd ',
  'e\u0301a\u0300o\u0302 ',
  'z\u0351\u0363\u036b ',
  '日本語。',
  '漢字かな交じり',
  '한국어 ',
  'العربية ',
  '😀',
  '👩‍👩‍👧‍👦 ',
  '🏳️‍🌈',
  '🇨🇭 ',
  '👍🏽 ',
  '𝒳𝓎𝔷 ',
  '𠜎𠜱',
  '"quoted\\" ',
  '</script> ',
  '\n',
  '\t',
]

function textOf(length: number, seed: number): string {
  const random = randomOf(seed)
  let text = ''
  while (text.length < length) text += pieces[Math.floor(random() * pieces.length)]
  const cut = text.slice(0, length)
  // Never half a pair: the last unit is then a full stop.
  return /[\ud800-\udbff]$/.test(cut) ? `${cut.slice(0, -1)}.` : cut
}

/** mulberry32 */
function randomOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

/** FNV-1a */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return hash >>> 0
}
