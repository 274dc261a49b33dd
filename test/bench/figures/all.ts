import type { Figure } from '../figure.js'
import { cpuFigures } from './cpu.js'
import { httpFigures } from './http.js'

/** Every figure, in the order of the table. */
export const figures: readonly Figure[] = [...cpuFigures, ...httpFigures]
