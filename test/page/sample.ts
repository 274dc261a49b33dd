/** A reply with everything that Markdown has, as models write it. */
export const sampleReply = `Offsets make it simple. Each frame says **where** its text begins, so a client needs nothing but its own text to know what is missing:

1. A frame that ends within the text is dropped.
2. One that begins at its end is appended.
3. One that begins *after* its end is a gap: rejoin from there.

\`\`\`ts
function place(text: string, frame: Frame): string | 'gap' {
  if (frame.offset > text.length) return 'gap'
  const known = text.length - frame.offset
  // What is known already is cut off.
  return text + frame.delta.slice(known)
}
\`\`\`

| frame | offset | the client has | what happens |
|---|--:|--:|---|
| \`Hello\` | 0 | 0 | appended |
| \`Hello\` | 0 | 5 | dropped |
| \`again\` | 12 | 5 | rejoin from 5 |

> A numbered frame would have to be kept as it was cut. Text has an address of its own.

See [the protocol](https://example.org/protocol) for the rest.`

/** Markdown with every construct, whole and broken, for tests that cut it anywhere. */
export const corpus = [
  sampleReply,
  '# One\n\nText\n===\n\n## Two ##\n\nSetext\n---\n\n###### Six',
  '- a\n- b\n  - c\n\n    d\n  1. e\n- [ ] open\n- [x] done\n\n* other\n+ list',
  '3. three\n4. four\n\n   still four\n\n10) ten',
  '> quote\n> > deeper\n>\n> - list\n>\n> ```js\n> code()\n> ```\nlazy',
  '```\nplain\n```\n\n~~~python\nprint("x")\n~~~\n\n    indented\n\n````md\n```\ninner\n```\n````\n\n```unclosed\nlet a = 1',
  'a **b *c* d** e __f__ ~~g~~ `h` ``i ` j`` **k',
  '[link](https://example.org "title") [ref][r] [r] ![image](https://example.org/i.png)\n\n[r]: https://example.org/r\n\n<https://example.org> https://example.org/auto www.example.org me@example.org',
  '[one][r] [two]\n\n[r]: https://example.org/ is none\n\n[two]: https://example.org/2',
  '[ref] ![image](https://example.org/i.png) more\n\nnone',
  '| a | b |\n|:-:|---|\n| 1 | `x|y` |\n| **2** |\n\n| no | table |',
  'line one  \nline two\\\nline three\n\n---\n***\n___\n\n&amp; &copy; &#x41; &#65; &nope; &#0;',
  '<div onclick="x">html</div>\n\n<script>alert(1)</script>\n\n<!-- comment -->\n\na<br>b <b>c</b>',
  '😀👩‍👩‍👧‍👦🏳️‍🌈 𝒳𝓎𝔷 日本語。**太字**です e\u0301 العربية **عربي** עברית',
  'x\u202Eevil\u202C y\u2066iso\u2069 \u0000\uFFFD\t\ttabs\r\nwindows\rmac',
  '****\n\n[[[\n\n![\n\n``\n\n<\n\n&\n\n\\\n\n|\n\n|-\n\n- \n\n1.\n\n>\n\n#',
  '*a **b* c** _d __e_ f__ [x](y [z](w) `a** b` **`c`**',
]
