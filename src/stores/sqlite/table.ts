import type { Value } from './connection.js'

/**
 * How a property is kept: as it is (an absent one as NULL, and a NULL is read as absent, or as `null`
 * where it is nullable), a date or several in milliseconds since 1970, or an object as JSON.
 */
type Kind = 'plain' | 'nullable' | 'date' | 'dates' | 'json'

type Columns<Row> = { readonly [Property in keyof Row]-?: Kind }

/** Rows as SQLite answers them: an object by property, each value as its column has it. */
export type Cells<Row> = { [Property in keyof Row]: unknown }

/**
 * Translates between rows of the store and columns, whose names are the properties' in snake case.
 * SQLite answers rows as JSON objects: libsql would cut a text at a NUL.
 */
export class Table<Row extends object> {
  readonly #kinds: ReadonlyMap<string, Kind>
  readonly #dates: readonly string[]
  readonly #optional: readonly string[]

  constructor(columns: Columns<Row>) {
    const kinds = Object.entries<Kind>(columns)
    const of = (...wanted: Kind[]) =>
      kinds.filter(([, kind]) => wanted.includes(kind)).map(([name]) => name)
    this.#kinds = new Map(kinds)
    this.#dates = of('date', 'dates')
    this.#optional = of('plain', 'date', 'json')
  }

  /** The names of all columns, or of those of some properties. */
  columns(properties?: readonly (keyof Row & string)[]): string {
    return this.#names(properties).map(columnOf).join(', ')
  }

  /** A mark for each value of `values`. */
  marks(properties?: readonly (keyof Row & string)[]): string {
    return this.#names(properties)
      .map(() => '?')
      .join(', ')
  }

  /** The expression of a row as a JSON object, as `row` takes it. */
  json(properties?: readonly (keyof Row & string)[]): string {
    const fields = this.#names(properties).map((name) => {
      const column = columnOf(name)
      const isJson = this.#kinds.get(name) === 'json' || this.#kinds.get(name) === 'dates'
      return `'${name}', ${isJson ? `json(${column})` : column}`
    })
    return `json_object(${fields.join(', ')})`
  }

  /** @param cells is changed into the row, for which a list of rows costs a third less. */
  row(cells: Cells<Row>): Row {
    const row: Record<string, unknown> = cells
    for (const name of this.#dates) {
      const value = row[name]
      if (typeof value === 'number') row[name] = new Date(value)
      else if (Array.isArray(value)) row[name] = value.map((ms) => new Date(ms))
    }
    const isWhole = this.#optional.every((name) => row[name] !== null)
    return (isWhole ? row : this.#withoutNulls(row)) as Row
  }

  #withoutNulls(row: Readonly<Record<string, unknown>>): Record<string, unknown> {
    const kept: Record<string, unknown> = {}
    for (const [name, kind] of this.#kinds) {
      const value = row[name]
      if (value !== undefined && (value !== null || kind === 'nullable')) kept[name] = value
    }
    return kept
  }

  /** What the columns get, in the order of `columns`. */
  values(row: Readonly<Partial<Row>>, properties?: readonly (keyof Row & string)[]): Value[] {
    const values: Readonly<Record<string, unknown>> = { ...row }
    return this.#names(properties).map((name) => cellOf(values[name]))
  }

  #names(properties: readonly string[] | undefined): readonly string[] {
    return properties ?? [...this.#kinds.keys()]
  }
}

const columnOf = (property: string) =>
  property.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

function cellOf(value: unknown): Value {
  if (value === undefined || value === null) return null
  if (typeof value === 'string' || typeof value === 'number') return value
  if (value instanceof Date) return value.getTime()
  if (Array.isArray(value)) return JSON.stringify(value.map(cellOf))
  return JSON.stringify(value)
}
