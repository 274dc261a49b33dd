import type { Connection } from './connection.js'

/*
 * Times are milliseconds since 1970. Wide columns come last, so that a page of rows is read without
 * the pages that they overflow to.
 */
const steps = [
  `
  CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    email TEXT NOT NULL,
    -- findUserByLogin, and who comes second at createUser
    username_key TEXT NOT NULL UNIQUE,
    email_key TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    rotated_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  -- deleteExpiredSessions
  CREATE INDEX sessions_by_expiry ON sessions (expires_at);

  CREATE TABLE chats (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    title TEXT,
    model TEXT,
    message_count INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    options TEXT,
    system TEXT
  ) STRICT;
  -- listChats, in its order
  CREATE INDEX chats_by_activity ON chats (user_id, updated_at DESC, id DESC);

  CREATE TABLE messages (
    id TEXT NOT NULL PRIMARY KEY,
    chat_id TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    role TEXT NOT NULL,
    status TEXT NOT NULL,
    model TEXT,
    created_at INTEGER NOT NULL,
    completed_at INTEGER,
    fingerprint TEXT,
    epoch INTEGER NOT NULL,
    epoch_start INTEGER NOT NULL,
    takeovers INTEGER NOT NULL,
    owner TEXT,
    lease_until INTEGER,
    options TEXT,
    usage TEXT,
    error TEXT,
    content TEXT NOT NULL,
    thinking TEXT
  ) STRICT;
  -- listMessages, listTexts, findTurn, and the last place in the chat at appendTurn
  CREATE UNIQUE INDEX messages_by_place ON messages (chat_id, seq);
  -- listActiveReplies
  CREATE INDEX active_by_chat ON messages (chat_id, seq) WHERE lease_until IS NOT NULL;
  -- findLapsedReplies, firstLeaseEnd
  CREATE INDEX active_by_lease ON messages (lease_until) WHERE lease_until IS NOT NULL;
  `,
  `
  -- deleteSessionsOf, deleteUser
  CREATE INDEX sessions_by_user ON sessions (user_id);
  `,
  `
  ALTER TABLE messages ADD COLUMN finish_reason TEXT;
  `,
  `
  -- What checkpoints add to the texts of an active reply, until its row is written whole.
  CREATE TABLE pieces (
    message_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    -- Where they begin in the texts, in UTF-16 units.
    content_from INTEGER NOT NULL,
    thinking_from INTEGER NOT NULL,
    content TEXT NOT NULL,
    thinking TEXT NOT NULL
  ) STRICT;
  -- the pieces of one reply, in the order of their rows
  CREATE INDEX pieces_by_message ON pieces (message_id);
  `,
  `
  ALTER TABLE messages ADD COLUMN tokens TEXT;
  ALTER TABLE pieces ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0;
  `,
  `
  -- Times, as JSON.
  ALTER TABLE sessions ADD COLUMN spent_at TEXT NOT NULL DEFAULT '[]';
  `,
] as const

/** The schema that this program writes. */
export const newestSchema = steps.length

/**
 * Brings the file to the newest schema, each step wholly or not at all.
 * @throws Error when a newer version of the program wrote the file, which is then left as it is.
 */
export function migrate(connection: Connection): void {
  const version = connection.reader<number>('SELECT user_version FROM pragma_user_version')() ?? 0
  if (version > steps.length) {
    throw new Error(
      `it was written by a newer version of this program (schema ${version}; this one knows up to ` +
        `${steps.length}). It was left as it is: run that version, or set another DATA_DIR.`,
    )
  }
  for (const [index, step] of steps.entries()) {
    if (index < version) continue
    connection.transaction(() => {
      connection.exec(step)
      connection.exec(`PRAGMA user_version = ${index + 1}`)
    })
  }
}
