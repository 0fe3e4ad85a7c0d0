"""Frames of a websocket (RFC 6455) and the binary messages that SSM's gateway sends in them, for either side."""

import base64
import dataclasses
import hashlib
import os
import struct
import time
import uuid

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
CONTROL_MAX_BYTES = 125
FINAL_BIT, RESERVED_BITS, MASK_BIT = 0x80, 0x70, 0x80
GOING_AWAY, PROTOCOL_ERROR, POLICY_VIOLATION = 1001, 1002, 1008
MESSAGE_MAX_BYTES = 4 << 20

# aws/amazon-ssm-agent, agent/session/contracts/agentmessage.go: lengths, type, version, created, sequence, flags, id, digest,
# payload type; the payload's length is not counted
HEADER = struct.Struct(">I32sIQQQ16s32sI")
PAYLOAD_LENGTH = struct.Struct(">I")
SCHEMA_VERSION = 1


class ProtocolError(Exception):
    """The other side sent what it must not."""


def accept_key(key):
    """What Sec-WebSocket-Accept must say to this Sec-WebSocket-Key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode("ascii")).digest()).decode("ascii")


def is_key(text):
    """Whether it is fit for a Sec-WebSocket-Key: 16 bytes in Base64 (RFC 6455, 4.2.1)."""
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except ValueError:
        return False


def xor(data, mask):
    n = len(data)
    stream = (mask * (n // 4 + 1))[:n]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(n, "big")


def head(opcode, n_bytes, *, final=True, masked=False, reserved=0):
    """A frame's first bytes, without a mask key; reserved are the three bits that no extension uses here."""
    first = (FINAL_BIT if final else 0) | reserved << 4 | opcode
    mask = MASK_BIT if masked else 0
    if n_bytes <= CONTROL_MAX_BYTES:
        return struct.pack(">BB", first, mask | n_bytes)
    if n_bytes < 1 << 16:
        return struct.pack(">BBH", first, mask | 126, n_bytes)
    return struct.pack(">BBQ", first, mask | 127, n_bytes)


def encode(opcode, payload, *, final=True, masked=False, reserved=0):
    """A frame; masked as a client must send it."""
    first = head(opcode, len(payload), final=final, masked=masked, reserved=reserved)
    if not masked:
        return first + payload
    mask = os.urandom(4)
    return first + mask + xor(payload, mask)


def close_payload(code, reason=""):
    return struct.pack(">H", code) + reason.encode()


def close_code(payload):
    """The code in a close frame's payload; None in an empty one."""
    return struct.unpack_from(">H", payload)[0] if len(payload) >= 2 else None


class Parser:
    """Makes messages of bytes as they come. masked: whether the other side is a client, whose frames must be masked."""

    def __init__(self, *, masked, limit_bytes=MESSAGE_MAX_BYTES):
        self._masked = masked
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._fragments = None  # (opcode, bytes so far)

    def feed(self, data):
        self._buffer += data

    def messages(self):
        """The (opcode, payload) that are complete: control frames, and messages put together from their fragments."""
        while (frame := self._next_frame()) is not None:
            message = self._assemble(*frame)
            if message is not None:
                yield message

    def _next_frame(self):
        data = self._buffer
        if len(data) < 2:
            return None
        if data[0] & RESERVED_BITS:
            raise ProtocolError(f"a frame has reserved bits set: {data[0]:#x}")
        if bool(data[1] & MASK_BIT) != self._masked:
            raise ProtocolError("a client's frame is not masked" if self._masked else "a server's frame is masked")
        short = data[1] & 0x7f
        n_length = {126: 2, 127: 8}.get(short, 0)
        n_head = 2 + n_length + (4 if self._masked else 0)
        if len(data) < n_head:
            return None
        n_bytes = int.from_bytes(data[2:2 + n_length], "big") if n_length else short
        self._check_length(data[0] & 0xf, n_bytes, data[0] & FINAL_BIT)
        if len(data) < n_head + n_bytes:
            return None
        payload = bytes(data[n_head:n_head + n_bytes])
        if self._masked:
            payload = xor(payload, bytes(data[n_head - 4:n_head]))
        opcode, final = data[0] & 0xf, bool(data[0] & FINAL_BIT)
        del data[:n_head + n_bytes]
        return opcode, payload, final

    def _check_length(self, opcode, n_bytes, final):
        if opcode >= CLOSE and (n_bytes > CONTROL_MAX_BYTES or not final):
            raise ProtocolError(f"a control frame has {n_bytes} bytes or is in fragments")
        n_before = len(self._fragments[1]) if self._fragments else 0
        if n_before + n_bytes > self._limit_bytes:
            raise ProtocolError(f"a message has {n_before + n_bytes} bytes, more than {self._limit_bytes}")

    def _assemble(self, opcode, payload, final):
        if opcode in (CLOSE, PING, PONG):
            return opcode, payload
        if opcode not in (CONTINUATION, TEXT, BINARY) or (opcode == CONTINUATION) != (self._fragments is not None):
            raise ProtocolError(f"a frame has opcode {opcode}, which must not come here")
        first, before = self._fragments or (opcode, b"")
        self._fragments = None if final else (first, before + payload)
        return (first, before + payload) if final else None


@dataclasses.dataclass(frozen=True)
class AgentMessage:
    """One message of the gateway, either way. created is in milliseconds since 1970; digest None: the payload's own."""

    type: str
    payload: bytes
    id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)
    created_msec: int = dataclasses.field(default_factory=lambda: time.time_ns() // 1_000_000)
    digest: bytes | None = None

    def pack(self):
        digest = hashlib.sha256(self.payload).digest() if self.digest is None else self.digest
        halves = self.id.bytes[8:] + self.id.bytes[:8]
        return (HEADER.pack(HEADER.size, self.type.encode("ascii").ljust(32), SCHEMA_VERSION, self.created_msec, 0, 0, halves,
                            digest, 0) + PAYLOAD_LENGTH.pack(len(self.payload)) + self.payload)


def unpack(data):
    """The AgentMessage in these bytes. Stricter than the real agent: every field must be right."""
    if len(data) < HEADER.size + PAYLOAD_LENGTH.size:
        raise ProtocolError(f"an agent message has {len(data)} bytes")
    n_header, kind, version, created_msec, sequence, flags, halves, digest, payload_type = HEADER.unpack_from(data)
    (n_payload,) = PAYLOAD_LENGTH.unpack_from(data, HEADER.size)
    payload = data[HEADER.size + PAYLOAD_LENGTH.size:]
    if (n_header, version, sequence, flags, payload_type) != (HEADER.size, SCHEMA_VERSION, 0, 0, 0):
        raise ProtocolError(f"an agent message has the header {data[:HEADER.size].hex()}")
    if n_payload != len(payload) or digest != hashlib.sha256(payload).digest():
        raise ProtocolError("an agent message's payload is not as long as its header says, or has another digest")
    if not kind.rstrip(b" ") or b"\0" in kind or not kind.isascii():
        raise ProtocolError(f"an agent message has the type {kind!r}, which is to be padded with spaces")
    return AgentMessage(kind.decode("ascii").rstrip(" "), payload, uuid.UUID(bytes=halves[8:] + halves[:8]), created_msec)
