/** What a bench must take down when a signal ends it, too: processes, namespaces, and folders with keys. */
type Close = () => Promise<void> | void

const open = new Set<Close>()

/** @returns the same, to be called when the bench itself is done; whichever comes first takes down */
export const closing = (close: Close): (() => Promise<void>) => {
  const once = async (): Promise<void> => {
    if (open.delete(once)) await close()
  }
  open.add(once)
  return once
}

/** The newest first. */
export const closeAll = async (): Promise<void> => {
  for (const close of [...open].reverse()) await close()
}
