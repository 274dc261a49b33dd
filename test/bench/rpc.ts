import type { ChildProcess } from 'node:child_process'

type Methods = Record<string, (...args: never[]) => unknown>

/** A child's methods as its parent sees them. */
export type Remote<M extends Methods> = {
  [K in keyof M]: (...args: Parameters<M[K]>) => Promise<Awaited<ReturnType<M[K]>>>
}

interface Call {
  id: number
  method: string
  args: never[]
}

interface Answer {
  id: number
  result?: unknown
  error?: string
}

/** In a child: answers the parent's calls, and ends when the parent is gone. */
export function serve(methods: Methods): void {
  process.on('message', async ({ id, method, args }: Call) => {
    const answer: Answer = { id }
    try {
      answer.result = await methods[method]?.(...args)
    } catch (error) {
      answer.error = error instanceof Error ? error.message : String(error)
    }
    process.send?.(answer)
  })
  process.once('disconnect', () => process.exit())
}

/** In the parent: the methods of a forked child. Each rejects when the child ends first. */
export function remote<M extends Methods>(child: ChildProcess, name: string): Remote<M> {
  const waiting = new Map<number, (answer: Answer) => void>()
  let ended: string | undefined
  let lastId = 0
  child.on('message', (answer: Answer) => waiting.get(answer.id)?.(answer))
  child.once('exit', (status, signal) => {
    ended = `the ${name} ended (${signal ?? status})`
    for (const [id, settle] of waiting) settle({ id, error: ended })
  })
  const call = (method: string, args: unknown[]) =>
    new Promise((resolve, reject) => {
      if (ended) return reject(new Error(ended))
      const id = ++lastId
      waiting.set(id, ({ result, error }) => {
        waiting.delete(id)
        if (error === undefined) resolve(result)
        else reject(new Error(`${name}, ${method}: ${error}`))
      })
      child.send({ id, method, args })
    })
  const methods = new Proxy(
    {},
    {
      get:
        (_, method: string) =>
        (...args: unknown[]) =>
          call(method, args),
    },
  )
  return methods as Remote<M>
}
