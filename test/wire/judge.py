"""Answers questions about sealed packets: one JSON array of requests a line in, one array of answers a line out."""
import json
import os
import sys

from espwire import Keys, build, open_frame, plain_trailer, seal_frame, wrap


def iv_of(request):
    return bytes.fromhex(request["iv"]) if "iv" in request else os.urandom(8)


def answer_open(request):
    return open_frame(bytes.fromhex(request["frame"]), Keys(request["keys"]), request.get("high", 0))


def answer_build(request):
    names = ("kind", "length", "source", "target", "sport", "dport", "tos")
    return build(**{name: request[name] for name in names if name in request}).hex()


def answer_seal(request):
    """By scapy, as RFC 4303 wants it. The sequence number comes as a decimal string: JSON's numbers are too small."""
    sequence = int(request["sequence"])
    iv = bytes.fromhex(request["iv"]) if "iv" in request else None
    inner = bytes.fromhex(request["inner"])
    return seal_frame(Keys(request["keys"]), sequence, inner, request["outer"], iv).hex()


def answer_craft(request):
    """By the bare cipher: payload, then a trailer that may be anything."""
    payload = bytes.fromhex(request["payload"])
    trailer = bytes.fromhex(request["trailer"]) if "trailer" in request else plain_trailer(len(payload))
    esp = Keys(request["keys"]).seal_text(int(request["sequence"]), iv_of(request), payload + trailer)
    return wrap(esp[: request.get("cut", len(esp))], request["outer"]).hex()


ANSWERS = {"open": answer_open, "build": answer_build, "seal": answer_seal, "craft": answer_craft}

for line in sys.stdin:
    print(json.dumps([ANSWERS[request["ask"]](request) for request in json.loads(line)]), flush=True)
