import { chromium } from 'playwright-core'

interface Teardown {
  teardown(end: () => unknown): unknown
}

const executablePath = process.env.TEST_CHROMIUM

/** For a test's option `skip`. */
export const withoutChromium = executablePath ? false : 'TEST_CHROMIUM is not set'

/** A browser with storage of its own; ended with the test. */
export async function startChromium(t: Teardown) {
  const browser = await chromium.launch({
    ...(executablePath && { executablePath }),
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking'],
  })
  t.teardown(() => browser.close())
  return browser.newContext()
}
