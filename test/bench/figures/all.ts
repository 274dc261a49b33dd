import type { Figure } from '../figure.js'
import { capacityFigures } from './capacity.js'
import { growthFigures } from './growth.js'
import { httpFigures } from './http.js'
import { memoryFigures } from './memory.js'
import { otherServerFigures } from './other-server.js'
import { startFigures } from './start.js'
import { stormFigures } from './storm.js'
import { streamFigures } from './streams.js'
import { turnFigures } from './turns.js'

/** Every figure, in the order of the table. */
export const figures: readonly Figure[] = [
  ...streamFigures,
  ...otherServerFigures,
  ...turnFigures,
  ...capacityFigures,
  ...httpFigures,
  ...memoryFigures,
  ...stormFigures,
  ...startFigures,
  ...growthFigures,
]
