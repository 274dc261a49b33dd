// performance.now() counts from each process's own start; the machine's monotonic clock is one for
// all of them. Of many readings of both the greatest difference is right: a process that had to wait
// between the two reads the second one late.
const differences = Array.from(
  { length: 100 },
  () => Number(process.hrtime.bigint()) / 1000 - performance.now() * 1000,
)
const start = Math.max(...differences)

/** Microseconds on a clock that all processes of this machine share. */
export const nowUs = () => Math.round(start + performance.now() * 1000)
