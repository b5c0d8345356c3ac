"""Messages as MessagePack and as JSON, by the schemas in schemas/generated, without any of the services' code."""
import json
import struct
from pathlib import Path

SCHEMAS = Path(__file__).resolve().parents[3] / "schemas" / "generated"


def schema_of(name):
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


def is_bytes(schema):
    return schema.get("contentEncoding") == "base64"


def is_wide(schema):
    return "x-minimum" in schema


def branch(schema, names_and_constants):
    """The schema that fits a map: of several, the one whose constants are those of the map."""
    for one in schema.get("anyOf", [schema]):
        constants = {name: inner["const"] for name, inner in one.get("properties", {}).items() if "const" in inner}
        if all(names_and_constants.get(name) == constant for name, constant in constants.items()):
            return one
    raise ValueError("fits no branch of the schema")


def inner_of(schema, name):
    return schema["properties"][name] if name in schema.get("properties", {}) else schema["additionalProperties"]


def head(length, fixed, limit, tags):
    """The shortest form: inside the first byte below the limit, else behind a tag in 1, 2 or 4 bytes (tag 0: no such form)."""
    if length < limit:
        return bytes([fixed | length])
    for tag, form, end in zip(tags, (">BB", ">BH", ">BI"), (1 << 8, 1 << 16, 1 << 32)):
        if tag and length < end:
            return struct.pack(form, tag, length)
    raise ValueError("too long")


def pack(schema, value, to_bytes):
    """One value; to_bytes reads the text that stands for bytes in the value."""
    if is_bytes(schema):
        data = to_bytes(value)
        return head(len(data), 0, 0, (0xC4, 0xC5, 0xC6)) + data
    if is_wide(schema):
        number = int(value)
        return struct.pack(">Bq", 0xD3, number) if number < 1 << 63 else struct.pack(">BQ", 0xCF, number)
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack(">Bd", 0xCB, value) if value >= 1 << 32 else head(value, 0, 0x80, (0xCC, 0xCD, 0xCE))
    if isinstance(value, str):
        data = value.encode()
        return head(len(data), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + data
    if isinstance(value, list):
        items = b"".join(pack(schema["items"], item, to_bytes) for item in value)
        return head(len(value), 0x90, 16, (0, 0xDC, 0xDD)) + items
    fitting = branch(schema, value)
    pairs = b"".join(pack({}, name, to_bytes) + pack(inner_of(fitting, name), inner, to_bytes) for name, inner in value.items())
    return head(len(value), 0x80, 16, (0, 0xDE, 0xDF)) + pairs


class Reader:
    """Reads one value of MessagePack: bytes as bytes, text as str, maps as dict in their order."""

    FORMS = {0xC4: "B", 0xC5: "H", 0xC6: "I", 0xD9: "B", 0xDA: "H", 0xDB: "I", 0xDC: "H", 0xDD: "I", 0xDE: "H", 0xDF: "I"}
    NUMBERS = {0xCB: "d", 0xCC: "B", 0xCD: "H", 0xCE: "I", 0xCF: "Q", 0xD3: "q"}

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        if self.at + length > len(self.data):
            raise ValueError("ends early")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))[0]

    def value(self):
        tag = self.take(1)[0]
        if tag < 0x80:
            return tag
        if tag in (0xC2, 0xC3):
            return tag == 0xC3
        if tag in self.NUMBERS:
            return self.number(self.NUMBERS[tag])
        if 0x80 <= tag <= 0x8F or tag in (0xDE, 0xDF):
            length = tag & 0x0F if tag <= 0x8F else self.number(self.FORMS[tag])
            return {self.value(): self.value() for _ in range(length)}
        if 0x90 <= tag <= 0x9F or tag in (0xDC, 0xDD):
            length = tag & 0x0F if tag <= 0x9F else self.number(self.FORMS[tag])
            return [self.value() for _ in range(length)]
        if 0xA0 <= tag <= 0xBF or tag in (0xD9, 0xDA, 0xDB):
            return self.take(tag & 0x1F if tag <= 0xBF else self.number(self.FORMS[tag])).decode()
        if tag in (0xC4, 0xC5, 0xC6):
            return self.take(self.number(self.FORMS[tag]))
        raise ValueError(f"no value begins with {tag:02x}")


def unpack(data):
    reader = Reader(data)
    value = reader.value()
    if reader.at != len(data):
        raise ValueError("something follows the value")
    return value


def to_json(schema, value, from_bytes):
    """A value that was read, as JSON: from_bytes writes bytes as text; integers of 64 bits are text."""
    if isinstance(value, bytes):
        if not is_bytes(schema):
            raise ValueError("bytes where the schema has none")
        return from_bytes(value)
    if isinstance(value, dict):
        fitting = branch(schema, value)
        return {name: to_json(inner_of(fitting, name), inner, from_bytes) for name, inner in value.items()}
    if isinstance(value, list):
        return [to_json(schema["items"], item, from_bytes) for item in value]
    if is_wide(schema):
        return str(value)
    return int(value) if isinstance(value, float) else value
