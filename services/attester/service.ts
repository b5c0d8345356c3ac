/** Serves `attest.<own id>.*`: control-plane Evidence for verifiers and releasers, node Evidence for this node's loader. */
import { Effect } from "effect"
import type { AttestRequest } from "../../schemas/messages/attestation.ts"
import { Bus } from "../common/bus/bus.ts"
import type { Refused } from "../common/bus/types.ts"
import { FileError } from "../common/config/files.ts"
import { KernelError } from "../common/kernel/errors.ts"
import { DeviceError } from "../evidence/emulated/error.ts"
import { ProviderError } from "../evidence/providers/index.ts"
import { TpmError } from "../evidence/tpm/index.ts"
import { CONTROL_LOOK_MS, knowWorkflow } from "../guest/known-workflow.ts"
import { refuse } from "../guest/refusals.ts"
import { MakeError } from "../make/errors.ts"
import { answerControl, answerNode, type Guest, type NodeGuest } from "./answer.ts"

export type Role =
  | { readonly role: "control-plane"; readonly guest: Guest }
  | { readonly role: "node"; readonly guest: NodeGuest }

/** Errors that say what is wrong without saying a secret; anything else is a defect and tells the sender nothing. */
const toRefused = (error: unknown): Refused | undefined => {
  if (error instanceof MakeError) return refuse(error.code, error.field, error.message)
  if (error instanceof FileError) return refuse(`FILE_${error.code}`, "guest", error.message)
  if (error instanceof KernelError) return refuse("DATAPLANE_UNREADABLE", "dataplane", error.message)
  return fromDevice(error)
}

/** DEVICE_BUSY, DEVICE_TIMEOUT: the field is the device, and the message has its path and errno. */
const fromDevice = (error: unknown): Refused | undefined => {
  if (error instanceof ProviderError) return refuse(`DEVICE_${error.code}`, "device", error.message)
  if (error instanceof TpmError)
    return refuse(`DEVICE_${error.code.replace(/^DEVICE_/, "TPM_")}`, "device", error.message)
  if (error instanceof DeviceError) return refuse(`DEVICE_${error.code}`, "device", error.message)
  return undefined
}

const answer = async (
  own: Role,
  workflow: Parameters<typeof answerControl>[1],
  value: AttestRequest,
  sender: string,
) => {
  if (own.role === "control-plane") {
    if (value.kind !== "attest-control")
      throw new MakeError("MISDIRECTED", "kind", "this guest is a control plane")
    return answerControl(own.guest, workflow, value)
  }
  if (value.kind !== "attest-node" || sender !== `loader-${own.guest.id}`) {
    throw new MakeError("MISDIRECTED", "kind", "this guest is a node and answers its own loader only")
  }
  return answerNode(own.guest, workflow, value)
}

export const serveAttester = Effect.fn("serveAttester")(function* (own: Role) {
  const bus = yield* Bus
  const { id, device } = own.guest
  const { platform, emulated } = device.provider
  const known = yield* knowWorkflow(
    own.guest.crypto,
    own.guest.trust,
    own.role === "control-plane" ? { lookMs: CONTROL_LOOK_MS } : {},
  )
  yield* bus.serve("attest", { node: id }, (value, { sender }) =>
    Effect.suspend(() => {
      const workflow = known.current()
      if (workflow === undefined) {
        return Effect.fail(
          refuse("NO_WORKFLOW", "workflow", "no signed workflow of this domain has arrived yet"),
        )
      }
      return Effect.tryPromise({
        try: () => answer(own, workflow, value, sender ?? ""),
        catch: (error) => error,
      }).pipe(
        Effect.catch((error) => {
          const refused = toRefused(error)
          if (refused === undefined) return Effect.die(error)
          const { code, message } = refused
          // The loader may have followed another document than the one that is known here.
          if (code === "MISDIRECTED") known.doubt()
          return Effect.logWarning("no Evidence was given", { code, message }).pipe(
            Effect.andThen(Effect.fail(refused)),
          )
        }),
      )
    }),
  )
  yield* bus.event({
    type: "vouchsafe.service.ready",
    data: {
      node: id,
      platform,
      emulated,
      message: `attester of a ${own.role}`,
    },
  })
  return yield* bus.closed
})
