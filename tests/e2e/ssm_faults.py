"""What the stand-in of SSM's endpoints does wrong on demand; SsmServer.fault() says where.

A fault of an answer has serve(exchange, answer): exchange is the request's handler, answer() what would be right to send. A fault
of the control channel has act(channel), and where it spoils a frame send(channel, opcode, payload).
"""

import dataclasses
import json

import ssm_websocket as websocket
from fault_proxy import HangUp, reset

XML, JSON = "application/xml", "application/x-amz-json-1.1"
HOLD_LIMIT_SEC = 120
CHUNK_BYTES = 64 << 10


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer. then() takes the connection over when it is sent."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple = ()
    then: object = None


def error_answer(service, status, code, message, key="message"):
    """The error the way the service words it: JSON, or of the message gateway XML."""
    if service == "ssmmessages":
        return Answer(status, f"<{code}><message>{message}</message></{code}>".encode(), XML)
    return Answer(status, json.dumps({"__type": code, key: message}).encode())


@dataclasses.dataclass(frozen=True)
class Error:
    """An error of AWS. key is "message" or "Message", and code may bear a prefix: services do all of it."""

    status: int
    code: str
    message: str = "made by the stand-in"
    key: str = "message"

    def serve(self, exchange, answer):
        exchange.send(error_answer(exchange.service, self.status, self.code, self.message, self.key))


SERVER_ERROR = Error(500, "InternalServerException")
UNAVAILABLE = Error(503, "ServiceUnavailableException")
THROTTLED = Error(400, "ThrottlingException", "Rate exceeded")
GATEWAY_THROTTLED = Error(400, "BadRequest", "throttling: Rate exceeded")
ACCESS_DENIED = Error(400, "AccessDeniedException", "User: arn:aws:sts::111122223333:assumed-role/deploy is not authorized")
EXPIRED_TOKEN = Error(400, "ExpiredTokenException", "The security token included in the request is expired", "Message")
REPLY_REJECTED = Error(400, "UnsupportedMessageOperationException", "The reply is not wanted")


@dataclasses.dataclass(frozen=True)
class Body:
    """Another body in place of the right one."""

    body: bytes
    content_type: str = JSON
    status: int = 200

    def serve(self, exchange, answer):
        exchange.send(Answer(self.status, self.body, self.content_type))


EMPTY_OBJECT = Body(b"{}")
EMPTY_BODY = Body(b"")
INVALID_JSON = Body(b'{"Messages":[{"MessageId":')
HTML = Body(b"<html><body><h1>A page for people</h1></body></html>", "text/html")


@dataclasses.dataclass(frozen=True)
class Reset:
    """Resets the connection: instead of an answer, that long after the request came, or at this point of a control channel."""

    after_sec: float = 0

    def serve(self, exchange, answer):
        exchange.hold(self.after_sec)
        self.act(exchange)

    def act(self, channel):
        reset(channel.connection)
        raise HangUp

    def send(self, channel, opcode, payload):
        self.act(channel)


class LoseAnswer:
    """Does what was asked, and resets the connection instead of saying so."""

    def serve(self, exchange, answer):
        answer()
        reset(exchange.connection)
        raise HangUp


@dataclasses.dataclass(frozen=True)
class Trickle:
    """Sends the right body byte by byte, so long after one another."""

    interval_sec: float

    def serve(self, exchange, answer):
        exchange.send(answer(), interval_sec=self.interval_sec)


class Stall:
    """Sends the headers and half of the right body, and then nothing until the client goes."""

    def serve(self, exchange, answer):
        right = answer()
        exchange.send_head(right)
        exchange.wfile.write(right.body[:len(right.body) // 2])
        exchange.hold(HOLD_LIMIT_SEC)
        raise HangUp


class WrongAcceptKey:
    """Upgrades to a websocket with the answer to another key."""

    def serve(self, exchange, answer):
        right = answer()
        headers = [(k, websocket.accept_key("another") if k == "Sec-WebSocket-Accept" else v) for k, v in right.headers]
        exchange.send(dataclasses.replace(right, headers=tuple(headers)))


# -- on the control channel


@dataclasses.dataclass(frozen=True)
class Close:
    """Closes the websocket properly, with this code."""

    code: int = websocket.GOING_AWAY

    def act(self, channel):
        channel.close(self.code, "made by the stand-in")
        raise HangUp

    def send(self, channel, opcode, payload):
        self.act(channel)


REFUSED_TOKEN = Close(websocket.POLICY_VIOLATION)


class HalfOpen:
    """Answers no more and reads no more, though the connection stands, until the client goes."""

    def act(self, channel):
        channel.hold(HOLD_LIMIT_SEC)
        raise HangUp

    def send(self, channel, opcode, payload):
        self.act(channel)


class Withhold:
    """What came is lost, as if it had not come; what is to be sent is not sent. The channel goes on."""

    def act(self, channel):
        return True

    def send(self, channel, opcode, payload):
        pass


@dataclasses.dataclass(frozen=True)
class Send:
    """Sends these bytes, whatever they are: before what is right, or by themselves where the channel is idle."""

    data: bytes

    def act(self, channel):
        channel.write(self.data)

    def send(self, channel, opcode, payload):
        channel.write(self.data + websocket.encode(opcode, payload))


class Masked:
    """Sends the frame masked, as only a client may."""

    def send(self, channel, opcode, payload):
        channel.write(websocket.encode(opcode, payload, masked=True))


@dataclasses.dataclass(frozen=True)
class Fragmented:
    """Sends the message in fragments of that many bytes, with a ping between the first two, as RFC 6455 allows."""

    n_bytes: int

    def send(self, channel, opcode, payload):
        parts = [payload[at:at + self.n_bytes] for at in range(0, len(payload), self.n_bytes)]
        frames = [websocket.encode(websocket.CONTINUATION if n else opcode, part, final=n == len(parts) - 1)
                  for n, part in enumerate(parts)]
        channel.write(b"".join([frames[0], websocket.encode(websocket.PING, b"between"), *frames[1:]]))


@dataclasses.dataclass(frozen=True)
class Oversized:
    """Announces a frame of that many bytes, and sends zeros until it is full or the client goes."""

    n_bytes: int

    def act(self, channel):
        channel.write(websocket.head(websocket.BINARY, self.n_bytes))
        for at in range(0, self.n_bytes, CHUNK_BYTES):
            channel.write(bytes(min(CHUNK_BYTES, self.n_bytes - at)))

    def send(self, channel, opcode, payload):
        self.act(channel)
