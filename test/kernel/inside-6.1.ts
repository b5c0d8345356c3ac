/** Runs inside the guest with kernel 6.1: all that is to be tried there, in one process of one start. */
const parts = ["./guest-inside.ts", "./plane-6.1-inside.ts", "./xfrm-inside.ts"] as const

for (const part of parts)
  try {
    await import(part)
  } catch (error) {
    console.log(`BROKEN: ${part} ended early: ${error instanceof Error ? error.stack : String(error)}`)
    process.exitCode = 1
  }
