import bash from 'highlight.js/lib/languages/bash'
import cpp from 'highlight.js/lib/languages/cpp'
import css from 'highlight.js/lib/languages/css'
import diff from 'highlight.js/lib/languages/diff'
import go from 'highlight.js/lib/languages/go'
import java from 'highlight.js/lib/languages/java'
import javascript from 'highlight.js/lib/languages/javascript'
import json from 'highlight.js/lib/languages/json'
import python from 'highlight.js/lib/languages/python'
import rust from 'highlight.js/lib/languages/rust'
import sql from 'highlight.js/lib/languages/sql'
import typescript from 'highlight.js/lib/languages/typescript'
import xml from 'highlight.js/lib/languages/xml'
import yaml from 'highlight.js/lib/languages/yaml'
import { createLowlight } from 'lowlight'
import type { ComponentChildren } from 'preact'

const lowlight = createLowlight({
  bash,
  cpp,
  css,
  diff,
  go,
  java,
  javascript,
  json,
  python,
  rust,
  sql,
  typescript,
  xml,
  yaml,
})

type Nodes = ReturnType<typeof lowlight.highlight>['children']

/** Code as coloured elements; undefined for a language that is not known. */
export function highlight(code: string, language: string): ComponentChildren {
  if (!lowlight.registered(language.toLowerCase())) return undefined
  return elements(lowlight.highlight(language.toLowerCase(), code).children)
}

function elements(nodes: Nodes): ComponentChildren {
  return nodes.map((node) => {
    if (node.type === 'text') return node.value
    if (node.type !== 'element') return null
    const names = node.properties.className
    return (
      <span class={Array.isArray(names) ? names.join(' ') : undefined}>
        {elements(node.children as Nodes)}
      </span>
    )
  })
}
