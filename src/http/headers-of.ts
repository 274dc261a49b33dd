import { IncomingMessage, type OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { Socket } from 'node:net'

type Middleware = (
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void

/**
 * The headers of a middleware that sets the same on every response, so that it need not run for each.
 * @throws what the middleware gives to `next`.
 */
export function headersOf(middleware: Middleware): OutgoingHttpHeaders {
  const response = new ServerResponse(new IncomingMessage(new Socket()))
  middleware(response.req, response, (error) => {
    if (error) throw error
  })
  return { ...response.getHeaders() }
}
