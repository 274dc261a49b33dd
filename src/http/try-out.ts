interface PageRequest {
  url?: string
  headers?: Record<string, string>
  body?: unknown
}
interface PageResponse {
  text?: string
}

/**
 * Makes the examples of the documentation's page work as they are: sends what the server has answered
 * (a token, the ids of a chat and of a reply) in place of the ids and the token that the examples have.
 * The page runs its source, so it refers to nothing outside itself.
 */
export function tryOut(examples: { chatId: string; replyId: string; refreshToken: string }) {
  const actual = { ...examples }
  let token: string | undefined

  return {
    /** Completes a request before the page sends it. */
    complete(request: PageRequest): PageRequest {
      const { url = '' } = request
      if (!new URL(url, 'http://page').pathname.startsWith('/api/')) return request
      for (const name of ['chatId', 'replyId', 'refreshToken'] as const) {
        request.url = request.url?.replaceAll(examples[name], actual[name])
        if (typeof request.body === 'string') {
          request.body = request.body.replaceAll(examples[name], actual[name])
        }
      }
      request.headers ??= {}
      if (token !== undefined) request.headers.Authorization ??= `Bearer ${token}`
      return request
    },

    /** Remembers what later requests need. */
    learn(response: PageResponse): PageResponse {
      let answer: Record<string, unknown> | null = null
      try {
        answer = JSON.parse(response.text ?? '')
      } catch {
        // The answer is not JSON.
      }
      if (typeof answer !== 'object' || answer === null) return response
      const { token: newToken, refreshToken, id, messageCount, reply } = answer
      if (typeof newToken === 'string') token = newToken
      if (typeof refreshToken === 'string') actual.refreshToken = refreshToken
      if (typeof id === 'string' && messageCount !== undefined) actual.chatId = id
      if (typeof reply === 'object' && reply !== null && 'id' in reply) {
        actual.replyId = String(reply.id)
      }
      return response
    },
  }
}
