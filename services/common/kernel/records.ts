/**
 * The records that the programs and this side share. Integers are little endian; addresses, ports and SPIs are stored as
 * on the wire, so in TypeScript they are plain numbers (10.0.0.1 is 0x0a000001) written big endian. Offsets are explicit:
 * the C structs have no hidden padding, and a plane is opened only if the kernel reports these very sizes.
 */
export * from "./config-records.ts"
export * from "./count-records.ts"
export * from "./edge-records.ts"
export * from "./flow-records.ts"
export * from "./record-address.ts"
export { decodeIndexKey, indexKey, reading, record } from "./record-bytes.ts"
export * from "./record-shapes.ts"
export * from "./sa-records.ts"
