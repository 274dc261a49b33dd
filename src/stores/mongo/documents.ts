import { ObjectId } from 'mongodb'
import type { ChatRow, MessageRow, SessionRow, TextPiece, UserRow } from '../store.js'
import { withPieces } from '../text-pieces.js'

/** Ids: strings in rows, ObjectIds in documents. */
const ids = { id: '_id', userId: 'user', chatId: 'chat' } as const
/** The fields of rows that documents name differently. */
const names = { ...ids, passwordHash: 'password' } as const

type DocumentOf<Row> = {
  [Field in keyof Row as Field extends keyof typeof names
    ? (typeof names)[Field]
    : Field]: Field extends keyof typeof ids ? ObjectId : Row[Field]
}

export type UserDocument = DocumentOf<UserRow> & {
  /** The username and the email by `loginKey`; of a user being deleted, keys that match no login. */
  usernameKey: string
  emailKey: string
  deleting?: true
}

export type SessionDocument = DocumentOf<SessionRow>

/** While a chat is being deleted, its owner is in `deletedFrom` instead, so that no query finds it. */
export type ChatDocument = DocumentOf<ChatRow> & { deletedFrom?: ObjectId }

export type MessageDocument = DocumentOf<MessageRow> & {
  /** The chat, while the message has a lease: keeps the index of active replies small. */
  activeIn?: ObjectId
  /** Which call of appendTurn inserted it. */
  attempt?: string
  /** Of a user's message: the title for a chat that had none. */
  chatTitle?: string
  /** What checkpoints added to the texts since they were last written whole. */
  pieces?: TextPiece[]
}

/** Fields that documents have and rows do not. */
const documentOnly: ReadonlySet<string> = new Set([
  ...['usernameKey', 'emailKey', 'deleting', 'deletedFrom'],
  ...['activeIn', 'attempt', 'chatTitle', 'pieces'],
])

const documentNames = new Map<string, string>(Object.entries(names))
const rowNames = new Map(Array.from(documentNames, ([row, document]) => [document, row]))

export const objectId = (id: string) => ObjectId.createFromHexString(id)

/** A row as a document; of a part of a row, the filter that finds it. */
export function documentOf<Row extends object>(row: Row): DocumentOf<Row> {
  const document: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(row)) {
    document[documentNames.get(name) ?? name] = name in ids ? objectId(value) : value
  }
  return document as DocumentOf<Row>
}

function rowOf<Row extends object>(document: DocumentOf<Row>): Row {
  const row: Record<string, unknown> = {}
  for (const [name, value] of Object.entries<unknown>(document)) {
    if (documentOnly.has(name)) continue
    row[rowNames.get(name) ?? name] = value instanceof ObjectId ? value.toHexString() : value
  }
  return row as Row
}

export const userOf = rowOf<UserRow>
export const sessionOf = rowOf<SessionRow>
export const chatOf = rowOf<ChatRow>

export const messageOf = (document: MessageDocument): MessageRow =>
  withPieces(rowOf<MessageRow>(document), document.pieces ?? [])

export function messageDocument(message: MessageRow): MessageDocument {
  const document = documentOf(message)
  return { ...document, ...(message.leaseUntil && { activeIn: document.chat }) }
}

/**
 * The update that applies a patch: undefined leaves a field as it is, and null removes it.
 * @param nullable fields that are stored as null instead.
 */
export function updateOf(patch: object, nullable: readonly string[] = []) {
  const given = Object.entries(patch).filter(([, value]) => value !== undefined)
  const isRemoved = ([name, value]: [string, unknown]) => value === null && !nullable.includes(name)
  const set = given.filter((entry) => !isRemoved(entry))
  const unset = given.filter(isRemoved).map(([name]) => [name, ''])
  return {
    ...(set.length > 0 && { $set: Object.fromEntries(set) }),
    ...(unset.length > 0 && { $unset: Object.fromEntries(unset) }),
  }
}
