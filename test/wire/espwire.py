"""ESP in UDP as scapy and python3-cryptography know it: what the tests of the wire hold the data plane against.

Nothing in here knows the data plane. Frames and keys are bytes; numbers are what the RFCs call them.
"""
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from scapy.config import conf
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw, raw

conf.verb = 0
ETHERNET = 14
IV = 8
ICV = 16


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Keys:
    """One SA: SPI, 32 bytes of key, 4 of salt, whether sequence numbers have 64 bits."""

    def __init__(self, given):
        self.spi = given["spi"]
        self.key = bytes.fromhex(given["key"])
        self.salt = bytes.fromhex(given["salt"])
        self.esn = given["esn"]

    def scapy(self, high=0, **more):
        """RFC 7634 section 2: the keying material is the key, then the salt."""
        return SecurityAssociation(
            ESP,
            spi=self.spi,
            crypt_algo="CHACHA20-POLY1305",
            crypt_key=self.key + self.salt,
            esn_en=self.esn,
            esn=high,
            **more,
        )

    def associated(self, spi, sequence):
        """RFC 7634 section 2.1."""
        if self.esn:
            return struct.pack("!IQ", spi, sequence)
        return struct.pack("!II", spi, sequence & 0xFFFFFFFF)

    def open_text(self, spi, sequence, iv, sealed):
        """The text of RFC 4303 figure 2 (payload to next header), without scapy. InvalidTag when not authentic."""
        return ChaCha20Poly1305(self.key).decrypt(self.salt + iv, sealed, self.associated(spi, sequence))

    def seal_text(self, sequence, iv, text):
        """ESP header, IV, ciphertext and ICV around a text that may break any rule."""
        sealed = ChaCha20Poly1305(self.key).encrypt(self.salt + iv, text, self.associated(self.spi, sequence))
        return struct.pack("!II", self.spi, sequence & 0xFFFFFFFF) + iv + sealed


def build(kind, length, source, target, sport, dport, tos=0):
    """A valid inner packet of exactly `length` bytes; for icmp `sport` is the echo's identifier."""
    ip = IP(src=source, dst=target, tos=tos, flags="DF")
    head = {
        "udp": lambda: UDP(sport=sport, dport=dport),
        "tcp": lambda: TCP(sport=sport, dport=dport, flags="PA", seq=1, ack=1),
        "icmp": lambda: ICMP(type=8, id=sport, seq=1),
    }[kind]()
    room = length - len(ip) - len(head)
    return raw(ip / head / Raw(bytes(i * 7 & 0xFF for i in range(room))))


def inner_sums(packet):
    """Names of the checksums of an inner packet that are wrong, summed here; a UDP checksum of zero is none."""
    wrong = []
    header = packet[:20]
    if checksum(header) != 0:
        wrong.append("ip")
    total = struct.unpack("!H", packet[2:4])[0]
    if total != len(packet):
        wrong.append("length")
    payload = packet[20:]
    protocol = packet[9]
    if protocol == 1:
        if checksum(payload) != 0:
            wrong.append("icmp")
    elif protocol in (6, 17):
        pseudo = packet[12:20] + struct.pack("!BBH", 0, protocol, len(payload))
        if checksum(pseudo + payload) != 0 and not (protocol == 17 and payload[6:8] == b"\0\0"):
            wrong.append("tcp" if protocol == 6 else "udp")
    return wrong


def dissect(frame):
    """An Ethernet frame; what UDP carries in it is read as ESP, also between ports that scapy doesn't know for it."""
    ether = Ether(frame)
    if UDP in ether and ESP not in ether and len(ether[UDP].payload) >= 8:
        carried = raw(ether[UDP].payload)
        ether[UDP].remove_payload()
        ether[UDP].add_payload(ESP(carried))
    return ether


def describe(ether):
    """Every field before the ESP payload, as scapy reads it; None when it isn't IPv4, UDP and ESP."""
    if IP not in ether or UDP not in ether or ESP not in ether:
        return None
    ip, udp, esp = ether[IP], ether[UDP], ether[ESP]
    blank = ip.copy()
    blank.remove_payload()
    del blank.chksum
    return {
        "type": ether.type,
        "version": ip.version,
        "ihl": ip.ihl,
        "tos": ip.tos,
        "total": ip.len,
        "id": ip.id,
        "flags": str(ip.flags),
        "fragment": ip.frag,
        "ttl": ip.ttl,
        "protocol": ip.proto,
        "sumRight": IP(raw(blank)).chksum == ip.chksum,
        "source": ip.src,
        "target": ip.dst,
        "from": udp.sport,
        "to": udp.dport,
        "udpLength": udp.len,
        "udpSum": udp.chksum,
        "spi": esp.spi,
        "low": esp.seq,
        "iv": esp.data[:IV].hex(),
    }


def open_frame(frame, keys, high=0):
    """Opens by scapy's SA and again by the bare cipher; `error` instead of the rest when either refuses."""
    ether = dissect(frame)
    described = describe(ether)
    if described is None:
        return {"error": "no ESP in UDP"}
    described["frame"] = len(frame)
    esp = ether[ESP]
    association = keys.scapy(high, tunnel_header=IP(), nat_t_header=UDP(sport=4500, dport=4500))
    try:
        opened = association.decrypt(ether[IP].copy())
        text = keys.open_text(esp.spi, high << 32 | esp.seq, esp.data[:IV], esp.data[IV:])
    except (IPSecIntegrityError, InvalidTag):
        return {**described, "error": "not authentic"}
    except TypeError as refused:
        return {**described, "error": str(refused)}
    pad = text[-2]
    return {
        **described,
        "inner": raw(opened).hex(),
        "innerClass": type(opened).__name__,
        "text": len(text),
        "padding": text[len(text) - 2 - pad : -2].hex(),
        "padLength": pad,
        "next": text[-1],
        "payload": text[: len(text) - 2 - pad].hex(),
        "wrongSums": inner_sums(raw(opened)),
    }


def ethernet(packet, source="02:00:00:00:00:0b", target="02:00:00:00:00:0a", kind=0x0800):
    return bytes.fromhex((target + source).replace(":", "")) + struct.pack("!H", kind) + packet


def seal_frame(keys, sequence, inner, outer, iv=None):
    """By scapy's SA: tunnel mode, NAT traversal. Without `iv` scapy takes a random one."""
    association = keys.scapy(
        sequence >> 32,
        tunnel_header=IP(src=outer["source"], dst=outer["target"], tos=outer.get("tos", 0)),
        nat_t_header=UDP(sport=outer["from"], dport=outer["to"]),
    )
    packet = association.encrypt(IP(inner), seq_num=sequence & 0xFFFFFFFF, iv=iv)
    # scapy 2.5 writes UDP's length before anything follows it.
    udp = packet[UDP]
    udp.len = len(raw(udp))
    udp.chksum = 0
    return ethernet(raw(packet))


def wrap(esp, outer):
    """Any ESP payload in UDP in IPv4; scapy writes lengths and the header's checksum, `outer` may override fields."""
    ip = IP(src=outer["source"], dst=outer["target"], proto=17, **outer.get("ip", {}))
    udp = UDP(sport=outer["from"], dport=outer["to"], chksum=outer.get("udpSum", 0))
    return ethernet(raw(ip / udp / Raw(esp)))


def plain_trailer(length, pad=None):
    """RFC 4303 section 2.4: 1, 2, 3, ...; by default to a multiple of four."""
    if pad is None:
        pad = -(length + 2) % 4
    return bytes(range(1, pad + 1)) + bytes([pad, 4])


__all__ = [name for name in dir() if not name.startswith("_")]
