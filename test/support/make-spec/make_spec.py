"""
MAKE once more, in Python, as services/make/SPEC.md and the generated schemas say it, without any of the services' code: what
those compute can be held against it. Reads {name: {"of": computation, "in": inputs}} from stdin and writes {"answers": {name:
outputs}, "unasked": computations that no name was of}, both as JSON. Bytes are hex, integers of 64 bits decimal text,
messages what their schemas say, with hex where those have base64.
"""
import hashlib
import hmac
import json
import struct
import sys
from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from messages import pack, schema_of, to_json, unpack

HEX = bytes.fromhex


def sha256(data):
    return hashlib.sha256(data).digest()


def u32(number):
    return struct.pack(">I", number)


def u64(number):
    return struct.pack(">Q", int(number))


# Encoding


def plain(field):
    return field.encode() if isinstance(field, str) else field


def E(label, *fields):
    return b"".join(u32(len(plain(field))) + plain(field) for field in ("vouchsafe/v1/" + label, *fields))


def items(fields):
    return E("list", *fields)


def message(name, fields):
    return pack(schema_of(name), fields, HEX)


# Signatures and exchanges


def raw(key):
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(secret, data):
    return Ed25519PrivateKey.from_private_bytes(secret).sign(data)


def is_signed(key, signature, data):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
        return True
    except InvalidSignature:
        return False


def ed25519_public(secret):
    return raw(Ed25519PrivateKey.from_private_bytes(secret).public_key())


def x25519_public(secret):
    return raw(X25519PrivateKey.from_private_bytes(secret).public_key())


def x25519(secret, public):
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


# Trees: RFC 9162, section 2.1, as it defines them


def hash_leaf(leaf):
    return sha256(b"\0" + leaf)


def hash_pair(left, right):
    return sha256(b"\1" + left + right)


def split(size):
    """The largest power of two below the size."""
    return 1 << (size - 1).bit_length() - 1


def root_of(hashes):
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return hash_pair(root_of(hashes[:k]), root_of(hashes[k:]))


def path_of(index, hashes):
    if len(hashes) == 1:
        return []
    k = split(len(hashes))
    if index < k:
        return path_of(index, hashes[:k]) + [root_of(hashes[k:])]
    return path_of(index - k, hashes[k:]) + [root_of(hashes[:k])]


def root_by_path(leaf, index, size, path):
    """RFC 9162, section 2.1.3.2. None: no such path."""
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            r = hash_pair(p, r)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hash_pair(r, p)
        fn, sn = fn >> 1, sn >> 1
    return r if sn == 0 else None


def climb(size, known, sibling):
    """From known hashes {index: hash} to the root; sibling(level, index) gives a hash that is lacking. Level by level."""
    level = 0
    while size > 1:
        above = {}
        for at in sorted(known):
            if at ^ 1 >= size:
                above[at >> 1] = known[at]
            elif at & 1 and at - 1 in known:
                continue
            else:
                other = known[at ^ 1] if at ^ 1 in known else sibling(level, at ^ 1)
                above[at >> 1] = hash_pair(other, known[at]) if at & 1 else hash_pair(known[at], other)
        known, size, level = above, (size + 1) // 2, level + 1
    return known[0]


def proof_of(hashes, indexes):
    levels = [hashes]
    while len(levels[-1]) > 1:
        row = levels[-1]
        levels.append([root_of(row[i : i + 2]) for i in range(0, len(row), 2)])
    proof = []

    def sibling(level, at):
        proof.append(levels[level][at])
        return proof[-1]

    climb(len(hashes), {i: hashes[i] for i in indexes}, sibling)
    return b"".join(proof)


def root_by_proof(size, leaves, proof):
    """leaves: (index, hash) that rise. None: these are no proof."""
    indexes = [index for index, _ in leaves]
    if not leaves or indexes != sorted(set(indexes)) or indexes[-1] >= size or len(proof) % 32:
        return None
    rest = [proof[i : i + 32] for i in range(0, len(proof), 32)]
    try:
        root = climb(size, dict(leaves), lambda level, at: rest.pop(0))
    except IndexError:
        return None
    return None if rest else root


# Digests


def workflow(i):
    document = i["document"].encode()
    signed = E("signed-workflow", document)
    return {"digest": sha256(E("workflow-digest", document)), "signed": signed, "signature": sign(HEX(i["secret"]), signed)}


def set_digest(label, members):
    return sha256(E(label, *sorted(set(members))))


def operator_keys(i):
    keys = set_digest("operator-keys-digest", [HEX(key) for key in i["keys"]])
    return {"digest": sha256(E("operator-keys-digest", u32(i["threshold"]), keys))}


def roots(i):
    lists = [
        items([root["vendor"], root.get("product", root.get("use", "")), root["key_digest"], u32(1 if root["emulated"] else 0)])
        for root in i["roots"]
    ]
    return {"roots": lists, "digest": set_digest("roots-digest", lists)}


# Steps 1 to 3


def hellos(i):
    leaves = [E("hello-leaf", one["role"], one["id"], HEX(one["nonce"])) for one in i["hellos"]]
    hashes = [hash_leaf(leaf) for leaf in leaves]
    root = root_of(hashes)
    paths = [path_of(at, hashes) for at in range(len(hashes))]
    assert all(root_by_path(hashes[at], at, len(hashes), path) == root for at, path in enumerate(paths))
    return {"leaves": leaves, "hashes": hashes, "root": root, "paths": paths}


def challenge_value(verifier_nonce, beacon):
    return sha256(E("challenge", HEX(verifier_nonce), HEX(beacon)))


def optional(piece, name):
    return items([HEX(piece[name])] if name in piece else [])


def piece_list(piece):
    certificates = items([HEX(one) for one in piece.get("certificates", [])])
    if piece["kind"] == "snp":
        return items(["snp", HEX(piece["report"]), certificates])
    if piece["kind"] == "tdx":
        return items(["tdx", HEX(piece["quote"]), certificates, optional(piece, "event_log")])
    if piece["kind"] == "nitro":
        return items(["nitro", HEX(piece["document"])])
    pcrs = [items([pcr["bank"], u32(pcr["index"]), HEX(pcr["value"])]) for pcr in piece["pcrs"]]
    signed = [HEX(piece[name]) for name in ("attest", "signature", "ak")]
    logs = [optional(piece, "boot_log"), optional(piece, "ima_log")]
    return items(["tpm", *signed, certificates, optional(piece, "hcl_report"), items(pcrs), *logs])


def control_evidence(i):
    c = i["message"]["claims"]
    before = [HEX(c[name]) for name in ("operators", "roots", "workflow", "verifier_key")]
    verifiers = items([HEX(key) for key in c["verifiers"]])
    after = [HEX(c["releaser_key"]), u64(c["term"]), HEX(c["merkle_root"]), u32(c["leaves"])]
    report_data = hashlib.sha512(
        E("control-plane-report-data", "control-plane", c["domain"], *before, verifiers, *after)
    ).digest()
    pieces = items([piece_list(piece) for piece in i["message"]["evidence"]["pieces"]])
    return {"report_data": report_data, "control_digest": sha256(E("control-digest", report_data, pieces))}


def node_evidence(i):
    said, c = i["message"], i["message"]["claims"]
    digests = [HEX(c[name]) for name in ("workflow", "control", "nonce", "challenge")]
    keys = [HEX(c[name]) for name in ("session", "signing_key", "dh_key", "kem_key", "dataplane", "boot")]
    report_data = hashlib.sha512(
        E("node-report-data", "node", items(c["suites"]), c["domain"], *digests, c["node"], *keys)
    ).digest()
    secret = HEX(i["credential"])
    activation = hmac.digest(secret, E("activation", report_data), "sha256")
    packed = message("node-evidence", {**said, "activation": activation.hex()})
    return {
        "challenge": challenge_value(said["verifier_nonce"], said["beacon"]),
        "report_data": report_data,
        "tpm_extra_data": sha256(report_data),
        "activation": activation,
        "packed": packed,
        "evidence_digest": sha256(E("evidence-digest", packed)),
        "kem_key_digest": sha256(E("kem-key-digest", HEX(c["kem_key"]))),
    }


# Step 4


def subject_of(domain, workflow_digest, node, dh_key):
    return sha256(E("result-subject", domain, workflow_digest, node, dh_key))


def result_leaf(subject, digest):
    return E("result-leaf", subject, digest)


def results(i):
    bodies = [message("attestation-result", body) for body in i["bodies"]]
    subjects = [subject_of(body["domain"], HEX(body["workflow"]), body["node"], HEX(body["dh_key"])) for body in i["bodies"]]
    digests = [sha256(E("result-digest", body)) for body in bodies]
    hashes = [hash_leaf(result_leaf(subject, digest)) for subject, digest in zip(subjects, digests)]
    root = root_of(hashes)
    signed = E("signed-results", root, u32(len(hashes)))
    secret = HEX(i["secret"])
    return {
        "bodies": bodies,
        "subjects": subjects,
        "digests": digests,
        "hashes": hashes,
        "root": root,
        "paths": [path_of(at, hashes) for at in range(len(hashes))],
        "key": ed25519_public(secret),
        "signed": signed,
        "signature": sign(secret, signed),
    }


def proofs(i):
    hashes = [HEX(one) for one in i["hashes"]]
    found = {name: proof_of(hashes, indexes) for name, indexes in i["sets"].items()}
    for name, indexes in i["sets"].items():
        assert root_by_proof(len(hashes), [(at, hashes[at]) for at in indexes], found[name]) == root_of(hashes)
    return {"root": root_of(hashes), **found}


def is_believed(scope, batch):
    leaves = []
    for peer in batch["peers"]:
        subject = subject_of(scope["domain"], HEX(scope["workflow"]), peer["node"], HEX(peer["dh_key"]))
        leaves.append((peer["index"], hash_leaf(result_leaf(subject, HEX(peer["result"])))))
    root = root_by_proof(batch["size"], leaves, HEX(batch["proof"]))
    if root is None or HEX(batch["key"]) not in map(HEX, scope["verifiers"]):
        return False
    return is_signed(HEX(batch["key"]), HEX(batch["signature"]), E("signed-results", root, u32(batch["size"])))


def peers(i):
    return {name: is_believed(i["scope"], batch) for name, batch in i["batches"].items()}


# Signed messages


def signed_message(i):
    body = message(i["message"], i["body"])
    return {"body": body, "signature": sign(HEX(i["secret"]), E("signed-" + i["message"], body))}


# Step 6: RFC 9180, base mode, one message


def extract(salt, ikm):
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def expand(prk, info, length):
    block, out = b"", b""
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


def labeled_extract(suite_id, salt, label, ikm):
    return extract(salt, b"HPKE-v1" + suite_id + label + ikm)


def labeled_expand(suite_id, prk, label, info, length):
    return expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite_id + label + info, length)


def key_schedule(kem, shared_secret, info):
    suite_id = b"HPKE" + struct.pack(">HHH", kem, 0x0001, 0x0003)
    hashes = labeled_extract(suite_id, b"", b"psk_id_hash", b"") + labeled_extract(suite_id, b"", b"info_hash", info)
    secret = labeled_extract(suite_id, shared_secret, b"secret", b"")
    return [labeled_expand(suite_id, secret, label, b"\0" + hashes, n) for label, n in ((b"key", 32), (b"base_nonce", 12))]


def dhkem_secret(i, enc):
    own = HEX(i["dh_secret"])
    suite_id = b"KEM" + struct.pack(">H", 0x0020)
    prk = labeled_extract(suite_id, b"", b"eae_prk", x25519(own, enc))
    return labeled_expand(suite_id, prk, b"shared_secret", enc + x25519_public(own), 32)


def xwing_secret(i, enc):
    """ML-KEM's own secret is an input: decapsulation is FIPS 203's, not this text's."""
    own = hashlib.shake_256(HEX(i["seed"])).digest(96)[64:]
    ephemeral = enc[1088:]
    parts = HEX(i["mlkem_secret"]), x25519(own, ephemeral), ephemeral, x25519_public(own), HEX("5c2e2f2f5e5c")
    return hashlib.sha3_256(b"".join(parts)).digest()


KEMS = {"chacha20-poly1305": (0x0020, dhkem_secret), "xwing-chacha20-poly1305": (0x647A, xwing_secret)}


def release(i):
    r = i["release"]
    workflow_digest, session = HEX(r["workflow"]), HEX(r["session"])
    info = E("release-seal", r["suite"], workflow_digest, r["node"], session, HEX(i["result"]))
    names = [r["domain"], workflow_digest, r["node"], session, r["releaser"]]
    aad = E("release-header", *names, u64(r["term"]), u64(r["sequence"]), HEX(r["nonce"]), r["suite"])
    kem, secret_of = KEMS[r["suite"]]
    shared_secret = secret_of(i, HEX(r["enc"]))
    key, nonce = key_schedule(kem, shared_secret, info)
    payload = ChaCha20Poly1305(key).decrypt(nonce, HEX(r["ciphertext"]), aad)
    made = {"info": info, "aad": aad, "shared_secret": shared_secret, "key": key, "base_nonce": nonce}
    return {**made, "payload": payload}


def renewal(i):
    r = i["header"]
    who = [r["domain"], HEX(r["workflow"]), r["node"], HEX(r["session"]), r["releaser"], u64(r["term"])]
    state = sha256(E("release-state", *who, HEX(i["result"]), HEX(i["packed"])))
    aad = E("release-header", *who, u64(r["sequence"]), HEX(r["nonce"]), r["suite"])
    return {"state": state, "digest": sha256(E("release-named", aad, state))}


def xwing_key(i):
    expanded = hashlib.shake_256(HEX(i["seed"])).digest(96)
    return {"d": expanded[:32], "z": expanded[32:64], "x": expanded[64:], "dh_key": x25519_public(expanded[64:])}


# Keys of an edge


def edge_keys(i):
    ikm = x25519(HEX(i["own_dh_secret"]), HEX(i["peer_dh_key"])) + HEX(i["release_secret"])
    salt = sha256(E("result-pair", HEX(i["initiator_result"]), HEX(i["responder_result"])))
    spis = [items([u32(spi) for spi in i[name]]) for name in ("spis_to_responder", "spis_to_initiator")]
    names = [i["suite"], HEX(i["workflow"]), f"{i['edge']}:{i['initiator']}:{i['responder']}", u64(i["term"]), u64(i["n"])]
    info = E("edge-keys", *names, i["initiator"], i["responder"], *spis)
    there, back = len(i["spis_to_responder"]), len(i["spis_to_initiator"])
    okm = expand(extract(salt, ikm), info, 36 * (there + back) + 16)
    lanes = [{"key": okm[at : at + 32], "salt": okm[at + 32 : at + 36]} for at in range(0, 36 * (there + back), 36)]
    keys = {"to_responder": lanes[:there], "to_initiator": lanes[there:]}
    return {"ikm": ikm, "salt": salt, "info": info, **keys, "exporter": okm[-16:]}


# The encoding itself, and messages


def encode(i):
    def field(of):
        ((kind, value),) = of.items()
        return {"text": str.encode, "bytes": HEX, "u32": u32, "u64": u64, "list": lambda all: items(map(field, all))}[kind](value)

    return {"encoded": E(i["label"], *map(field, i["fields"]))}


def read(i):
    return {"message": to_json(schema_of(i["message"]), unpack(HEX(i["packed"])), bytes.hex)}


def golden(i):
    """Both ways, with base64 as the schemas have it."""
    schema = schema_of(i["message"])
    found = to_json(schema, unpack(HEX(i["packed"])), lambda data: b64encode(data).decode())
    return {"packed": pack(schema, i["json"], b64decode), "json": found}


COMPUTATIONS = {
    "encode": encode,
    "workflow": workflow,
    "operator-keys": operator_keys,
    "roots": roots,
    "hellos": hellos,
    "control-evidence": control_evidence,
    "node-evidence": node_evidence,
    "results": results,
    "proofs": proofs,
    "peers": peers,
    "signed-message": signed_message,
    "xwing-key": xwing_key,
    "release": release,
    "renewal": renewal,
    "edge-keys": edge_keys,
    "read": read,
    "golden": golden,
}

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    answers = {name: COMPUTATIONS[one["of"]](one["in"]) for name, one in asked.items()}
    unasked = sorted(COMPUTATIONS.keys() - {one["of"] for one in asked.values()})
    json.dump({"answers": answers, "unasked": unasked}, sys.stdout, default=bytes.hex)
