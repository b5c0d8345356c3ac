"""Whoever is root in a namespace and opens sockets there: does what it is told, a JSON object a line, and says what came of it.

Answers `{"ok": true, ...}` or `{"error": "ENODEV"}`. It never stops at an error: being refused is an answer.
"""
import errno
import json
import socket
import struct
import subprocess
import sys
import threading

SOL_PACKET = 263
PACKET_QDISC_BYPASS = 20
SO_MARK = 36
UDP_SEGMENT = 103
SO_BINDTODEVICE = 25


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def options(sock, given):
    if "mark" in given:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", given["mark"]))
    if "device" in given:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, given["device"].encode() + b"\0")
    if "segment" in given:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, given["segment"])
    if given.get("broadcast"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if "source" in given:
        sock.bind((given["source"], given.get("sport", 0)))
    elif "sport" in given:
        sock.bind(("", given["sport"]))
    sock.settimeout(given.get("wait", 1))


def do_frames(given):
    """Frames from a packet socket, past the queueing discipline when `bypass`. Each is sent whatever became of the last."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    if given.get("bypass"):
        sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    if "mark" in given:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", given["mark"]))
    sock.bind((given["device"], 0))
    sent, errors = 0, []
    for frame in given["frames"]:
        try:
            sock.send(bytes.fromhex(frame))
            sent += 1
        except OSError as error:
            errors.append(errno.errorcode[error.errno])
    sock.close()
    return {"sent": sent, "errors": errors}


def do_udp(given):
    with socket.socket(socket.AF_INET6 if ":" in given["to"] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        options(sock, given)
        payload = bytes.fromhex(given["payload"])
        sock.sendto(payload, (given["to"], given["port"]))
        if not given.get("answer"):
            return {}
        return {"answer": sock.recvfrom(65536)[0].hex()}


def do_tcp(given):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        options(sock, given)
        sock.connect((given["to"], given["port"]))
        return {}


def do_ping(given):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        options(sock, given)
        payload = bytes.fromhex(given["payload"])
        rest = struct.pack("!HH", given["id"], 1) + payload
        message = b"\x08\0" + struct.pack("!H", checksum(b"\x08\0\0\0" + rest)) + rest
        sock.sendto(message, (given["to"], 0))
        while given.get("answer", True):
            packet = sock.recv(65536)
            if packet[20] == 0 and packet[24:26] == rest[:2]:
                return {"answer": packet[28:].hex()}
        return {}


def do_packet(given):
    """A raw IP socket that brings its own header."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        options(sock, given)
        sock.sendto(bytes.fromhex(given["packet"]), (given["to"], 0))
        return {}


def do_run(given):
    result = subprocess.run(given["argv"], capture_output=True, text=True, timeout=10, check=False)
    if result.returncode != 0:
        return {"error": "status %d" % result.returncode, "said": (result.stderr or result.stdout).strip()}
    return {"said": result.stdout}


def do_listen(given):
    """Answers datagrams from now on."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", given["port"]))

    def serve():
        while True:
            data, sender = sock.recvfrom(65536)
            heard.append(data.hex())
            sock.sendto(b"the node got: " + data, sender)

    threading.Thread(target=serve, daemon=True).start()
    return {}


def do_heard(_):
    taken = list(heard)
    heard.clear()
    return {"datagrams": taken}


def do_devices(_):
    return {"names": [name for _, name in socket.if_nameindex()]}


def do_sent(given):
    """How many packets a device has sent."""
    with open("/proc/net/dev", encoding="ascii") as table:
        for line in table:
            name, _, numbers = line.partition(":")
            if name.strip() == given["device"]:
                return {"packets": int(numbers.split()[9])}
    return {"error": "ENODEV"}


heard = []
ACTS = {name[3:]: act for name, act in list(globals().items()) if name.startswith("do_")}

for line in sys.stdin:
    given = json.loads(line)
    try:
        result = {"ok": True, **ACTS[given["do"]](given)}
        if "error" in result:
            del result["ok"]
    except socket.timeout:
        result = {"error": "timeout"}
    except OSError as error:
        result = {"error": errno.errorcode.get(error.errno, str(error))}
    print(json.dumps(result), flush=True)
