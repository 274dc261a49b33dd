import type { Store } from './store.js'

/* The store in the parts that each database implements in files of the same names. */

export type AccountStore = Pick<
  Store,
  | 'createUser'
  | 'findUser'
  | 'findUserByLogin'
  | 'deleteUser'
  | 'createSession'
  | 'findSession'
  | 'rotateSession'
  | 'findLiveSessions'
  | 'deleteSession'
  | 'deleteSessionsOf'
  | 'deleteExpiredSessions'
>

export type ChatStore = Pick<
  Store,
  'createChat' | 'findChat' | 'listChats' | 'countChats' | 'updateChat' | 'deleteChat'
>

export type MessageStore = Pick<
  Store,
  | 'appendTurn'
  | 'findMessage'
  | 'findTurn'
  | 'listMessages'
  | 'listTexts'
  | 'listActiveReplies'
  | 'listActiveRepliesOf'
  | 'updateReply'
  | 'checkpoint'
  | 'renewLeases'
  | 'findLapsedReplies'
  | 'firstLeaseEnd'
>
