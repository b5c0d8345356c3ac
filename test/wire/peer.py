"""The far end of a wire: a node made of scapy on a packet socket, or only somebody who watches.

One argument, JSON: `device`, `association` (what the watched nodes seal with, a list), and to take part: `wire`, `inner`
(own addresses), `node` (its wire address and mac), `seal` (the SA that the node opens). A line of JSON on stdin asks, a line
on stdout answers. All frames that arrive are kept until they are asked for.
"""
import hashlib
import json
import select
import socket
import struct
import sys
import time

from espwire import (ARP, ESP, ICMP, IP, TCP, UDP, Ether, InvalidTag, Keys, Raw, checksum, inner_sums,
                     open_frame, raw, seal_frame)

SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_AUXDATA = 8
SO_RCVBUFFORCE = 33
ETH_P_ALL = 3
OUTGOING = 4
VLAN_VALID = 1 << 4
MSS = 1398
ARP_START = bytes.fromhex("0806000108000604")

config = json.loads(sys.argv[1])
device = config["device"]
associations = {one["spi"]: Keys(one) for one in config["association"]}
marker = bytes.fromhex(config.get("marker", ""))
takes_part = "seal" in config

sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
sock.bind((device, ETH_P_ALL))
own_mac = ":".join("%02x" % byte for byte in sock.getsockname()[4])

# (frame, whether this end of the device sent it, whether a VLAN tag was taken off it)
frames = []
inbox = []
connections = {}
sequence = 0


def receive():
    data, ancillary, _, address = sock.recvmsg(65536, 64)
    tagged = any(kind == PACKET_AUXDATA and struct.unpack("=I", value[:4])[0] & VLAN_VALID for _, kind, value in ancillary)
    frames.append((data, address[2] == OUTGOING, tagged))
    return data, address[2] == OUTGOING, tagged


def send_inner(packet):
    """Under scapy's SA: a random IV, the next number."""
    global sequence
    sequence += 1
    outer = {"source": config["wire"], "target": config["node"], "from": 4500, "to": 4500}
    frame = seal_frame(Keys(config["seal"]), sequence, raw(packet), outer)
    frame = raw(Ether(src=own_mac, dst=config["mac"], type=0x0800)) + frame[14:]
    sock.send(frame)
    return frame


def answer_tcp(packet):
    """A server that takes all there is and, when its client has finished, says what it got."""
    tcp = packet[TCP]
    name = (tcp.sport, tcp.dport)
    head = IP(src=packet.dst, dst=packet.src, flags="DF") / TCP(sport=tcp.dport, dport=tcp.sport, window=65535)
    if tcp.flags.R:
        connections.pop(name, None)
        return
    if tcp.flags.S:
        connections[name] = {"next": tcp.seq + 1 & 0xFFFFFFFF, "own": 1001, "got": hashlib.sha256(), "bytes": 0}
        reply = head.copy()
        reply[TCP].flags, reply[TCP].seq, reply[TCP].ack = "SA", 1000, connections[name]["next"]
        reply[TCP].options = [("MSS", MSS)]
        send_inner(reply)
        return
    if name not in connections:
        return
    state = connections[name]
    data = raw(tcp.payload)[: packet.len - 20 - tcp.dataofs * 4]
    in_order = tcp.seq == state["next"]
    if in_order and data:
        state["got"].update(data)
        state["bytes"] += len(data)
        state["next"] = state["next"] + len(data) & 0xFFFFFFFF
    reply = head.copy()
    if in_order and tcp.flags.F:
        state["next"] = state["next"] + 1 & 0xFFFFFFFF
        said = b"scapy got %d bytes %s" % (state["bytes"], state["got"].hexdigest().encode())
        reply = reply / Raw(said)
        reply[TCP].flags, reply[TCP].seq, reply[TCP].ack = "FPA", state["own"], state["next"]
        send_inner(reply)
    elif data or tcp.flags.F:
        reply[TCP].flags, reply[TCP].seq, reply[TCP].ack = "A", state["own"], state["next"]
        send_inner(reply)


def answer_inner(packet):
    if ICMP in packet and packet[ICMP].type == 8:
        echo = packet[ICMP].copy()
        echo.type = 0
        del echo.chksum
        send_inner(IP(src=packet.dst, dst=packet.src) / echo)
    elif TCP in packet:
        answer_tcp(packet)
    elif UDP in packet and packet[UDP].dport == config["asked"]:
        said = b"scapy got: " + raw(packet[UDP].payload)
        said = raw(packet[UDP].payload) if len(said) > 1410 else said
        send_inner(IP(src=packet.dst, dst=packet.src) / UDP(sport=packet[UDP].dport, dport=packet[UDP].sport) / Raw(said))
    elif UDP in packet:
        inbox.append(raw(packet[UDP].payload).hex())


def take_part(frame):
    ether = Ether(frame)
    if ARP in ether and ether[ARP].op == 1 and ether[ARP].pdst == config["wire"]:
        asked = ether[ARP]
        reply = ARP(op=2, hwsrc=own_mac, psrc=config["wire"], hwdst=asked.hwsrc, pdst=asked.psrc)
        sock.send(raw(Ether(src=own_mac, dst=asked.hwsrc) / reply))
    elif ESP in ether and ether[ESP].spi in associations:
        opened = open_frame(frame, associations[ether[ESP].spi])
        if "error" not in opened:
            answer_inner(IP(bytes.fromhex(opened["inner"])))


def judge(frame, tagged):
    """One kept frame: `arp`, `sealed` with what is in it, or `other`. Only what opens counts as sealed."""
    # Request or reply for IPv4 over Ethernet, nothing behind it but what fills a shortest frame.
    if not tagged and frame[12:20] == ARP_START and frame[20:22] in (b"\0\1", b"\0\2") and 42 <= len(frame) <= 60:
        return {"kind": "arp"}
    other = {"kind": "other", "tagged": tagged, "frame": frame[:128].hex()}
    if tagged or frame[12:14] != b"\x08\x00" or len(frame) < 14 + 20 + 8 + 32 or frame[14] != 0x45 or frame[23] != 17:
        return other
    total = struct.unpack("!H", frame[16:18])[0]
    sport, dport, udp_length, udp_sum, spi, low = struct.unpack("!HHHHII", frame[34:50])
    keys = associations.get(spi)
    if keys is None or udp_length != total - 20 or len(frame) != 14 + total or checksum(frame[14:34]) != 0:
        return other
    try:
        text = keys.open_text(spi, low, frame[50:58], frame[58:])
    except InvalidTag:
        return other
    inner = text[: len(text) - 2 - text[-2]]
    return {
        "kind": "sealed",
        "spi": spi,
        "low": low,
        "iv": frame[50:58].hex(),
        "from": sport,
        "to": dport,
        "udpSum": udp_sum,
        "total": total,
        "flags": frame[20] >> 5,
        "protocol": inner[9],
        "inner": len(inner),
        "wrong": inner_sums(inner),
    }


def report(question):
    """What has arrived since the last report. A frame that this end sent is left out unless it only watches."""
    kept = [one for one in frames if not one[1] or not takes_part]
    frames.clear()
    judged = [judge(frame, tagged) for frame, _, tagged in kept]
    if question.get("summary"):
        sealed = [one for one in judged if one["kind"] == "sealed"]
        summary = {
            "arp": sum(one["kind"] == "arp" for one in judged),
            "sealed": len(sealed),
            "longest": max((one["total"] for one in sealed), default=0),
            "repeatedIvs": len(sealed) - len({(one["spi"], one["iv"]) for one in sealed}),
            "wrong": [one for one in sealed if one["wrong"]][:10],
            "innerBytes": sum(one["inner"] for one in sealed),
        }
    else:
        summary = {"all": judged}
    summary["other"] = [one for one in judged if one["kind"] == "other"][:50]
    summary["marked"] = sum(marker in frame for frame, _, _ in kept) if marker else 0
    summary["lost"] = struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
    return summary


def send_raw(question):
    for frame in question["frames"]:
        sock.send(bytes.fromhex(frame))
    return {"sent": len(question["frames"])}


def send_udp(question):
    """Seals a datagram for the node; gives the frame, so that it can be sent again."""
    packet = IP(src=config["inner"], dst=question["to"]) / UDP(sport=question["sport"], dport=question["dport"])
    return {"frame": send_inner(packet / Raw(bytes.fromhex(question["payload"]))).hex()}


def wait_inbox(question):
    wait_for(lambda: inbox, question["seconds"])
    taken = list(inbox)
    inbox.clear()
    return {"datagrams": taken}


def wait_for(done, seconds):
    """Goes on serving the wire meanwhile."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        serve(min(0.05, seconds))


def serve(timeout, more=()):
    ready, _, _ = select.select([sock, *more], [], [], timeout)
    if sock in ready:
        frame, outgoing, tagged = receive()
        if takes_part and not outgoing and not tagged:
            take_part(frame)
    return ready


def drain(question):
    """Until nothing has come for a while."""
    while serve(question.get("quiet", 0.1)):
        pass
    return report(question)


QUESTIONS = {
    "ready": lambda _: {"mac": own_mac},
    "report": drain,
    "raw": send_raw,
    "udp": send_udp,
    "inbox": wait_inbox,
}

while True:
    if sys.stdin in serve(None, [sys.stdin]):
        line = sys.stdin.readline()
        if line == "":
            break
        question = json.loads(line)
        print(json.dumps(QUESTIONS[question["do"]](question)), flush=True)
