import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { settings } from './settings.js'

/** Bare socket.io: it lets sockets in, and that is all. */
const http = createServer()
new Server(http, { serveClient: false })
http.listen(settings.port, settings.host)
