#!/usr/bin/env node
import { useCompileCache } from "../common/process/compile-cache.ts"

useCompileCache()
await import("./program.ts")
