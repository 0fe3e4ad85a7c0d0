"""Frames and agent messages, against what their specifications write out."""

import hashlib
import struct
import uuid

import pytest

import ssm_websocket as websocket

HELLO_MASKED = bytes.fromhex("818537fa213d7f9f4d5158")
ID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


def parse(data, *, masked=False, **options):
    parser = websocket.Parser(masked=masked, **options)
    parser.feed(data)
    return list(parser.messages())


def test_accept_key_of_the_rfc():
    assert websocket.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_frames_of_the_rfc():
    """RFC 6455, 5.7."""
    assert websocket.encode(websocket.TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert parse(HELLO_MASKED, masked=True) == [(websocket.TEXT, b"Hello")]
    assert parse(bytes.fromhex("010348656c") + bytes.fromhex("80026c6f")) == [(websocket.TEXT, b"Hello")]
    assert websocket.encode(websocket.PING, b"Hello") == bytes.fromhex("890548656c6c6f")
    assert parse(bytes.fromhex("8a8537fa213d7f9f4d5158"), masked=True) == [(websocket.PONG, b"Hello")]
    assert websocket.encode(websocket.BINARY, bytes(256))[:4] == bytes.fromhex("827e0100")
    assert websocket.encode(websocket.BINARY, bytes(65536))[:10] == bytes.fromhex("827f0000000000010000")


@pytest.mark.parametrize("n_bytes", [0, 1, 125, 126, 65535, 65536, 100_001])
def test_masked_frames_of_every_length(n_bytes):
    data = bytes(n % 251 for n in range(n_bytes))
    frame = websocket.encode(websocket.BINARY, data, masked=True)
    assert parse(frame, masked=True) == [(websocket.BINARY, data)]


def test_bytes_come_one_by_one_and_with_a_ping_between_fragments():
    data = (websocket.encode(websocket.TEXT, b"one", final=False) + websocket.encode(websocket.PING, b"p")
            + websocket.encode(websocket.CONTINUATION, b"two"))
    parser = websocket.Parser(masked=False)
    found = []
    for n in range(len(data)):
        parser.feed(data[n:n + 1])
        found += parser.messages()
    assert found == [(websocket.PING, b"p"), (websocket.TEXT, b"onetwo")]


@pytest.mark.parametrize("data", [
    websocket.encode(websocket.TEXT, b"x", masked=True), websocket.encode(websocket.TEXT, b"x", reserved=4),
    websocket.encode(3, b"x"), websocket.encode(11, b"x"), websocket.encode(websocket.CONTINUATION, b"x"),
    websocket.encode(websocket.TEXT, b"x", final=False) + websocket.encode(websocket.TEXT, b"x"),
    websocket.encode(websocket.PING, bytes(126)), websocket.encode(websocket.CLOSE, b"", final=False),
    websocket.head(websocket.BINARY, 1 << 40),
    websocket.encode(websocket.BINARY, bytes(600), final=False) + websocket.encode(websocket.CONTINUATION, bytes(600)),
], ids=["masked", "reserved bits", "opcode 3", "opcode 11", "continues nothing", "not continued", "long ping", "close in parts",
        "announces too much", "too much in parts"])
def test_bad_frames(data):
    with pytest.raises(websocket.ProtocolError):
        parse(data, limit_bytes=1000)


def test_clients_must_mask():
    with pytest.raises(websocket.ProtocolError, match="not masked"):
        parse(websocket.encode(websocket.TEXT, b"x"), masked=True)


def layout(payload=b"{}", *, header_length=116, version=1, digest=None, n_payload=None, kind=b"agent_job".ljust(32)):
    """An agent message written down field by field, in the order of the protocol's section 2.2."""
    return b"".join([struct.pack(">I", header_length), kind, struct.pack(">I", version), struct.pack(">Q", 1_790_000_000_123),
                     bytes(8), bytes(8), bytes.fromhex("8899aabbccddeeff0011223344556677"),
                     hashlib.sha256(payload).digest() if digest is None else digest, bytes(4),
                     struct.pack(">I", len(payload) if n_payload is None else n_payload), payload])


def test_agent_message_layout():
    message = websocket.AgentMessage("agent_job", b"{}", ID, 1_790_000_000_123)
    assert message.pack() == layout()
    assert websocket.unpack(layout()) == message


@pytest.mark.parametrize("data", [
    b"", layout()[:119], layout(header_length=112), layout(version=2), layout(digest=bytes(32)), layout(n_payload=3),
    layout(kind=bytes(32)), layout(kind=b"agent_job".ljust(32, b"\0"))],
    ids=["empty", "short", "header length", "version", "digest", "payload length", "no type", "type with NULs"])
def test_bad_agent_messages(data):
    with pytest.raises(websocket.ProtocolError):
        websocket.unpack(data)
