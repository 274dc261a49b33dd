/** A name that nothing else has; unlike `randomUUID` it also works on plain http. */
export const randomName = () => crypto.getRandomValues(new Uint32Array(4)).join('-')
