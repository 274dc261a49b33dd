export default {
  chat: {
    input: './openapi.json',
    output: { target: './generated/chat.ts', client: 'fetch', baseUrl: process.env.API_URL },
  },
}
