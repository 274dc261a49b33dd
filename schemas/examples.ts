/** One short conversation, from which the documents take every example. */

const user = {
  id: '692b6a1e5f0c3d2a41b7e001',
  username: 'ada',
  email: 'ada@example.org',
  createdAt: '2026-11-29T21:30:00.000Z',
}
const password = 'Engines weave 7 patterns'

const token =
  'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI2OTJiNmExZTVmMGMzZDJhNDFiN2UwMDEifQ.example'
const tokenPair = {
  token,
  refreshToken: '692b6a1e5f0c3d2a41b7e002.0.uPqzq3oU0bJkq5Zb1QvWmY2sT8hXcD4nLr6aEiGfKw0',
  expiresIn: 3600,
}

const content = 'I am a little sad today.'
const answer = 'I am sorry to hear that you are sad.'
const model = 'eliza'

const summary = {
  id: '692b6a1e5f0c3d2a41b7e003',
  title: 'A sad day',
  model: null,
  messageCount: 2,
  createdAt: '2026-11-29T21:30:01.000Z',
  updatedAt: '2026-11-29T21:30:02.000Z',
}
const chatInput = { title: summary.title, system: 'Answer in one sentence.' }
const chat = { ...summary, user: user.id, system: chatInput.system }

const message = {
  id: '692b6a1e5f0c3d2a41b7e004',
  chatId: chat.id,
  seq: 1,
  role: 'user',
  content,
  status: 'complete',
  createdAt: '2026-11-29T21:30:02.000Z',
}
const usage = {
  promptTokens: 18,
  replyTokens: 9,
  contextLength: 4096,
  messagesSent: 2,
  messagesDropped: 0,
  firstTokenMs: 41,
  totalMs: 402,
  tokensPerSecond: 24.9,
}
const replyId = '692b6a1e5f0c3d2a41b7e005'
const reply = {
  id: replyId,
  chatId: chat.id,
  seq: 2,
  role: 'assistant',
  content: answer,
  status: 'complete',
  finishReason: 'stop',
  model,
  usage,
  createdAt: message.createdAt,
  completedAt: '2026-11-29T21:30:02.402Z',
}

const messageStart = {
  id: replyId,
  chatId: chat.id,
  seq: 2,
  role: 'assistant',
  content: '',
  status: 'queued',
  model,
  createdAt: message.createdAt,
  epoch: 1,
  position: 1,
  estimatedStart: '2026-11-29T21:30:04.000Z',
}
const messageChunk = { chatId: chat.id, messageId: replyId, epoch: 1, offset: 5, delta: 'sorry ' }

export const examples = {
  user,
  password,
  tokenPair,
  model,
  content,
  summary,
  chatInput,
  chat,
  message,
  usage,
  reply,
  messageStart,
  messageChunk,
  cursor: 'q1Yw0f0o6oTt1q2rWyIyMDI2LTExLTI5VDIxOjMwOjAyLjAwMFoiXQ',
  requestId: '0b9e6c1c-8f3e-4d57-9a51-6f2f6f0f7f7e',
  idempotencyKey: 'a-little-sad-1',
}
