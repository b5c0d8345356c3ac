"""An application for tests: `serve FAMILY KIND PORT` or `send FAMILY KIND PORT ADDRESS SOURCE BYTES`. Says what it did as JSON.

Kinds: tcp, udp (whole datagrams), gso (one call, cut into datagrams by the kernel: UDP_SEGMENT), ping.
"""
import hashlib
import json
import socket
import struct
import sys
import time

UDP_SEGMENT = 103
SO_RCVBUFFORCE = 33
SEGMENT = 1000
role, family, kind, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
net = socket.AF_INET6 if family == "6" else socket.AF_INET
block = bytes(i * 31 + 7 & 0xFF for i in range(SEGMENT))

if role == "serve":
    sock = socket.socket(net, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(20)
    if kind != "tcp":
        # A reader that gets no processor for a while must not lose what has arrived.
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    sock.bind(("::" if net == socket.AF_INET6 else "0.0.0.0", port))
    digest, got = hashlib.sha256(), 0
    if kind == "tcp":
        sock.listen()
        print("ready", flush=True)
        connection, _ = sock.accept()
        while chunk := connection.recv(65536):
            digest.update(chunk)
            got += len(chunk)
        connection.send(b"done")
    else:
        print("ready", flush=True)
        while True:
            datagram, sender = sock.recvfrom(65536)
            if datagram == b"end":
                break
            digest.update(datagram)
            got += len(datagram)
        sock.sendto(b"done", sender)
    print(json.dumps({"bytes": got, "sha256": digest.hexdigest()}), flush=True)
else:
    address, source, length = sys.argv[5], sys.argv[6], int(sys.argv[7])
    sock = socket.socket(net, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    sock.settimeout(20)
    sock.bind((source, 0))
    sock.connect((address, port))
    data = block * (length // SEGMENT)
    if kind == "tcp":
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    elif kind == "gso":
        sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SEGMENT)
        for at in range(0, len(data), 20 * SEGMENT):
            sock.send(data[at : at + 20 * SEGMENT])
            time.sleep(0.01)
        sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 0)
    else:
        for at in range(0, len(data), SEGMENT):
            sock.send(data[at : at + SEGMENT])
            time.sleep(0.001)
    if kind != "tcp":
        time.sleep(0.3)
        sock.send(b"end")
    answer = sock.recv(100)
    print(json.dumps({"answer": answer.decode(), "sha256": hashlib.sha256(data).hexdigest()}), flush=True)
