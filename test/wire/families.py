"""Sealed packets of either family, inside and outside: made, opened and watched by scapy and python3-cryptography.

One JSON question a line in, one answer a line out. With a device as argument, what crosses it is kept until it is asked for.
"""
import json
import select
import socket
import sys

from espwire import IP, UDP, ESP, Ether, InvalidTag, Keys, Raw, checksum, ethernet, raw, struct
from scapy.layers.inet import ICMP, TCP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.sctp import SCTP, SCTPChunkInit

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33


def pseudo_sum(packet, at, protocol):
    """RFC 8200 section 8.1 and RFC 768: zero when the checksum of what begins at `at` is right."""
    payload = packet[at:]
    if packet[0] >> 4 == 6:
        return checksum(packet[8:40] + struct.pack("!II", len(payload), protocol) + payload)
    return checksum(packet[12:20] + struct.pack("!BBH", 0, protocol, len(payload)) + payload)


def sums(packet):
    """Names of the checksums of an inner packet that are wrong, summed here."""
    six = packet[0] >> 4 == 6
    at, protocol = (40, packet[6]) if six else (20, packet[9])
    wrong = [] if six or checksum(packet[:20]) == 0 else ["ip"]
    length = 40 + struct.unpack("!H", packet[4:6])[0] if six else struct.unpack("!H", packet[2:4])[0]
    if length != len(packet):
        wrong.append("length")
    if protocol == 1 and checksum(packet[at:]) != 0:
        wrong.append("icmp")
    elif protocol in (6, 17, 58) and pseudo_sum(packet, at, protocol) != 0:
        wrong.append({6: "tcp", 17: "udp", 58: "icmp6"}[protocol])
    return wrong


def association(keys, six, high, ports=(4500, 4500), **header):
    outer = IPv6(**header) if six else IP(**header)
    return keys.scapy(high, tunnel_header=outer, nat_t_header=UDP(sport=ports[0], dport=ports[1]))


def answer_open(question):
    """By scapy's SA, and again by the bare cipher."""
    frame, keys = bytes.fromhex(question["frame"]), Keys(question["keys"])
    high = question.get("high", 0)
    ether = Ether(frame)
    six = ether.type == 0x86DD
    outer = ether[IPv6] if six else ether[IP]
    udp = outer[UDP]
    carried = raw(udp.payload)
    described = {
        "version": outer.version,
        "class": outer.tc if six else outer.tos,
        "length": len(raw(outer)),
        "sumRight": (udp.chksum != 0 and pseudo_sum(raw(outer), 40, 17) == 0) if six else udp.chksum == 0,
        "from": udp.sport,
        "to": udp.dport,
        "source": outer.src,
        "target": outer.dst,
        "limit": outer.hlim if six else outer.ttl,
    }
    udp.remove_payload()
    udp.add_payload(ESP(carried))
    esp = outer[ESP]
    opened = association(keys, six, high).decrypt(outer.copy())
    text = keys.open_text(esp.spi, high << 32 | esp.seq, esp.data[:8], esp.data[8:])
    return {**described, "next": text[-1], "kind": type(opened).__name__, "inner": raw(opened).hex(),
            "text": text[: len(text) - 2 - text[-2]].hex(), "wrong": sums(raw(opened))}


def answer_seal(question):
    """By scapy's SA, in UDP with a checksum or none."""
    inner = bytes.fromhex(question["inner"])
    outer = question["outer"]
    six = ":" in outer["source"]
    sequence = int(question["sequence"])
    sa = association(Keys(question["keys"]), six, sequence >> 32, (outer["from"], outer["to"]),
                     src=outer["source"], dst=outer["target"])
    packet = sa.encrypt(IPv6(inner) if inner[0] >> 4 == 6 else IP(inner), seq_num=sequence & 0xFFFFFFFF)
    udp = packet[UDP]
    del udp.len
    if question.get("sum", six):
        del udp.chksum
    return ethernet(raw(packet), kind=0x86DD if six else 0x0800).hex()


def answer_build(question):
    """A valid inner packet of about this payload, with an own idea of everything."""
    six = ":" in question["source"]
    head = (IPv6 if six else IP)(src=question["source"], dst=question["target"])
    sport, dport = question["sport"], question["dport"]
    layer = {
        "udp": lambda: UDP(sport=sport, dport=dport),
        "tcp": lambda: TCP(sport=sport, dport=dport, flags="S"),
        "icmp": lambda: ICMPv6EchoRequest(id=sport) if six else ICMP(type=8, id=sport),
        "sctp": lambda: SCTP(sport=sport, dport=dport) / SCTPChunkInit(),
    }[question["kind"]]()
    if question["kind"] != "sctp":
        layer = layer / Raw(bytes(i & 0xFF for i in range(question["payload"])))
    return raw(head / layer).hex()


sock = None
frames = []


def answer_report(question):
    """Every frame since the last report: neighbours, sealed ones with what was wrong in them, and others."""
    keys = {one["spi"]: Keys(one) for one in question["keys"]}
    found = {"neighbour": 0, "sealed": {}, "wrong": [], "other": [], "longest": 0, "marked": 0, "wrongOuter": 0}
    marker = bytes.fromhex(question["marker"])
    for frame in frames:
        found["marked"] += marker in frame
        kind = frame[12:14]
        at = 14 + (40 if kind == b"\x86\xdd" else 20)
        if kind == b"\x08\x06" or (kind == b"\x86\xdd" and frame[20] == 58 and frame[54] in (135, 136)):
            found["neighbour"] += 1
            continue
        next_header = frame[20] if kind == b"\x86\xdd" else frame[23]
        spi, low = struct.unpack("!II", frame[at + 8 : at + 16]) if len(frame) > at + 48 else (0, 0)
        try:
            if next_header != 17 or kind not in (b"\x86\xdd", b"\x08\x00"):
                raise KeyError(spi)
            text = keys[spi].open_text(spi, low, frame[at + 16 : at + 24], frame[at + 24 :])
        except (KeyError, InvalidTag):
            found["other"].append(frame[:100].hex())
            continue
        if kind == b"\x86\xdd" and pseudo_sum(frame[14:], 40, 17) != 0:
            found["wrongOuter"] += 1
        inner = text[: len(text) - 2 - text[-2]]
        name = "%d in %d" % (inner[0] >> 4, 6 if kind == b"\x86\xdd" else 4)
        found["sealed"][name] = found["sealed"].get(name, 0) + 1
        found["longest"] = max(found["longest"], len(frame) - 14)
        if sums(inner):
            found["wrong"].append([sums(inner), inner[:64].hex()])
    frames.clear()
    return found


ANSWERS = {"open": answer_open, "seal": answer_seal, "build": answer_build, "report": answer_report,
           "ready": lambda _: True}
if len(sys.argv) > 1:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    sock.bind((sys.argv[1], ETH_P_ALL))
buffer = b""
while True:
    ready = select.select([sys.stdin.buffer.fileno()] + ([sock] if sock else []), [], [])[0]
    if sock in ready:
        frames.append(sock.recv(65536))
        continue
    chunk = sys.stdin.buffer.raw.read(1 << 20)
    if not chunk:
        break
    buffer += chunk
    *lines, buffer = buffer.split(b"\n")
    for line in lines:
        question = json.loads(line)
        many = question if isinstance(question, list) else [question]
        answers = [ANSWERS[one["ask"]](one) for one in many]
        print(json.dumps(answers if isinstance(question, list) else answers[0]), flush=True)
