/** How a thread of the pool begins: it shares the service's cache of compiled code, which a thread doesn't by itself. */
import { useCompileCache } from "../common/process/compile-cache.ts"

useCompileCache()
await import("./pool-thread.ts")
