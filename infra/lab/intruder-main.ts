/**
 * Puts frames on the wire as root of a node could: from a packet socket, past every hook of traffic control. Runs in the node's wire
 * namespace. Arguments: the device, then each frame in hex. Prints how many it sent.
 */
import { openSender } from "./packet-socket.ts"

const [device = "", ...frames] = process.argv.slice(2)
const sender = openSender(device)
for (const frame of frames) sender.send(Buffer.from(frame, "hex"))
sender.close()
process.stdout.write(`${frames.length}\n`)
