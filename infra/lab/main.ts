import { useCompileCache } from "../../services/common/process/compile-cache.ts"

useCompileCache()
await import("./program.ts")
