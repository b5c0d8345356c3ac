/** Makes and closes links on a device for some seconds, as fast as it can: `link-maker.ts OBJECT DEVICE-INDEX MILLISECONDS`. */
import { closeFd } from "../../services/common/kernel/bpf.ts"
import { KernelError } from "../../services/common/kernel/errors.ts"
import { loadObject } from "../../services/common/kernel/libbpf.ts"
import { createTcxLink } from "../../services/common/kernel/links.ts"

const [object = "", ifindex = "0", milliseconds = "0"] = process.argv.slice(2)
const program = loadObject(object).programFd("vs_seal")
process.stdout.write("ready\n")
const until = Date.now() + Number(milliseconds)
let made = 0
while (Date.now() < until) {
  try {
    closeFd(createTcxLink(Number(ifindex), "ingress", program))
    made += 1
  } catch (error) {
    // Who looks at the last one holds it, and the program stays where it is until then.
    if (!(error instanceof KernelError) || error.code !== "EEXIST") throw error
  }
}
process.stdout.write(`${made}\n`)
