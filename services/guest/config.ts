/** What every service of a guest is told by its environment besides the bus. */
import { Config, Schema } from "effect"
import { tokenConfig } from "../common/bus/config.ts"

const path = Schema.String.check(Schema.isPattern(/^\/[^\0]{1,4094}$/))

/** An absolute path, from this variable. */
export const pathConfig = (name: string): Config.Config<string> => Config.schema(path, name)

export const guestConfig = Config.all({
  /** This instance's name; with the role it is the NATS identity. For attesters and loaders: the node's id. */
  instance: tokenConfig("VOUCHSAFE_INSTANCE"),
  /** Root-only directory where this guest's services leave their public keys for its attester. */
  runDirectory: pathConfig("VOUCHSAFE_RUN_DIR"),
  /** The measured configuration: operators and control plane to believe. */
  anchors: pathConfig("VOUCHSAFE_ANCHORS"),
})
