// performance.now() counts from each process's own start; the machine's monotonic clock is one for
// all of them.
const start = Number(process.hrtime.bigint()) / 1000 - performance.now() * 1000

/** Microseconds on a clock that all processes of this machine share. */
export const nowUs = () => Math.round(start + performance.now() * 1000)
